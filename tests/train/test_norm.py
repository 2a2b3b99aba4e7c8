"""Files of means and deviations in the published form."""

import numpy as np
import pandas as pd
import pytest
from scipy.io import loadmat, savemat

from featurestore.shared.config import load
from featurestore.shared.errors import SerError
from train.commands.curves import norm
from train.config import TrainConfig
from train.examples.examples import load_examples
from train.models.inference import make_model
from train.reading.norm import read_norm, write_norm

STREAM = ["width=8", "fusion=none", "streams.speech={feature: states, layers: 1, front: standardize}"]


def test_what_is_written_is_what_a_model_would_take(commands, store, store_path, tmp_path):
    done = commands.run("norm", "--store", store_path, "--feature", "states", "--layer", 1, "--out", tmp_path / "norm")
    assert done.returncode == 0, done.stderr
    labels = store.utterances["A"]
    assert loadmat(tmp_path / "norm" / "act_norm_means.mat")["normal_para"][0][0] == pytest.approx(labels.mean())
    assert loadmat(tmp_path / "norm" / "act_norm_stds.mat")["normal_para"][0][0] == pytest.approx(labels.std(ddof=0))
    found = {}
    for folder in ("", f"streams.speech.front={{name: standardize, norm: {tmp_path / 'norm'}}}"):
        config = load(TrainConfig, [], [*STREAM, *filter(None, [folder])])
        examples = load_examples(store, config)
        model = make_model(examples, config, 0)
        model.fit(examples, examples.names)
        found[folder] = model.state_dict()
    first, second = found.values()
    assert all(np.allclose(first[key], second[key], rtol=1e-5) for key in first)
    done = commands.run("norm", "--store", store_path, "--feature", "states", "--out", tmp_path)
    assert "states has 3 layers, expected one" in done.stderr


def test_published_files_and_their_bound(store, tmp_path):
    for word, value in (("means", 2.0), ("stds", 0.5)):
        savemat(tmp_path / f"feat_norm_{word}.mat", {"normal_para": np.full((1, 16), value)})
    front = f"streams.speech.front={{name: standardize, bound: 3, norm: {tmp_path}}}"
    config = load(TrainConfig, [], [*STREAM, front])
    examples = load_examples(store, config)
    model = make_model(examples, config, 0)
    model.fit(examples, examples.names)
    heard = examples.streams["speech"]
    frames = heard.front.read(heard.source, "u000")
    expected = ((frames.decode()[0] - 2) / 0.5).clip(-3, 3)
    assert np.allclose(model.streams[0].front([frames]).detach().numpy(), expected, atol=1e-4)
    assert np.abs(expected).max() == 3


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "cannot be read: No such file"),
        (b"nothing", "is no MATLAB file with the variable normal_para"),
        ({"other": 1.0}, "is no MATLAB file with the variable normal_para"),
        ({"normal_para": np.ones(15)}, "holds 15 numbers, expected 16: one of each channel"),
        ({"normal_para": [np.nan] * 16}, "holds 16 numbers, 16 of them not finite, expected 16"),
        ({"normal_para": [-1.0] * 16}, r"feat_norm_stds.mat: expected deviations of 0 or more, found -1"),
    ],
)
def test_files_that_cannot_be(tmp_path, content, message):
    for word in ("means", "stds"):
        file = tmp_path / f"feat_norm_{word}.mat"
        if isinstance(content, bytes):
            file.write_bytes(content)
        elif content is not None:
            savemat(file, content)
    with pytest.raises(SerError, match=message):
        read_norm(tmp_path, 16)


def test_norm_beside_another_normalisation_is_refused(tmp_path):
    with pytest.raises(SerError, match="found norm beside normalize=speaker"):
        load(
            TrainConfig,
            [],
            [*STREAM, f"streams.speech.front={{name: standardize, normalize: speaker, norm: {tmp_path}}}"],
        )


def test_a_layer_that_there_is_not_is_named(store_path, tmp_path):
    with pytest.raises(SerError, match="states has 3 layers, numbered from 0: found layers=9"):
        norm(store=str(store_path), feature="states", layer=9, out=tmp_path)


def test_labels_that_there_are_not_have_no_files(tmp_path):
    moments = np.zeros((1, 2), np.float32), np.ones((1, 2), np.float32)
    table = pd.DataFrame({"A": [1.0, 3.0], "V": [np.nan, np.nan]}, ["x", "y"])
    files = [file.name for file in write_norm(tmp_path, moments, table)]
    assert files == [f"{word}_norm_{kind}.mat" for word in ("feat", "act") for kind in ("means", "stds")]
    with pytest.raises(SerError, match=r"label D of 2 utterances .* is no number, e.g. 'low'"):
        write_norm(tmp_path, moments, table.assign(D=["low", "high"]))
