"""Models that compute in bfloat16: nearly the same predictions, and float32 in all that leaves them."""

import numpy as np
import pandas as pd
import pytest
import torch

from featurestore.shared.config import load
from tests.train.parts import frames
from tests.train.test_layers_per_target import PER_TARGET, made
from train.config import TrainConfig
from train.models.inference import predict
from train.poolings import masked_mean
from train.running.opened import Run
from train.running.run import prepare, run
from train.temporal.bilstm import BiLSTM

BFLOAT16 = "precision=bfloat16"
CHAIN = "streams.pitch.temporal={name: chain, steps: [{name: mel_cnn, channels: [4]}, {name: conformer, width: 8}]}"


@pytest.mark.parametrize(
    "overrides",
    [
        ["fusion=none", "pooling=statistics"],
        ["fusion=none", "streams.speech.temporal=bilstm", "pooling=attentive_statistics"],
        ["fusion=none", "streams.speech.temporal={name: chain, steps: [dilated_cnn, bilstm]}", "pooling=max"],
        ["fusion=none", "temporal=tcn", "pooling=lstm", PER_TARGET],
        ["fusion=none", "pooling={name: chunks, attention: self}", "tasks.curves={name: sequence, targets: [V,A]}"],
        ["fusion=attention", "streams.pitch.embedding=cnn"],
        ["fusion=cross_attention", "pooling=pyramid"],
        ["fusion=concat", CHAIN, "temporal=transformer"],
        ["fusion={name: multiscale, channels: 8, heads: 2}", "targets=[V,emotion]"],
        ["fusion=repeat_concat", "temporal={name: tcn, dropout: 0.1}"],
        *([f"fusion={name}"] for name in ("scalar_mix", "gated", "film", "bottleneck", "co_attention")),
    ],
)
def test_models_in_bfloat16_give_nearly_the_same(store, overrides):
    precise, examples = made(store, *overrides)
    rough, _ = made(store, BFLOAT16, *overrides)
    rough.load_state_dict(precise.state_dict())
    rows = [np.array([4, 7, 50])]
    expected, found = (predict(model, examples, rows) for model in (precise, rough))
    for task, outputs in found.items():
        assert not torch.equal(outputs, expected[task])
        error = (outputs - expected[task]).norm() / expected[task].norm()
        assert error < 0.03, error
    trained = rough.train()(examples.batch(rows[0]))
    assert all(outputs.dtype == torch.float32 for outputs in trained.values())
    sum(outputs.square().sum() for outputs in trained.values()).backward()
    learned = [one for one in rough.parameters() if one.grad is not None]
    assert len(learned) > 2
    assert all(one.grad.dtype == torch.float32 and one.grad.isfinite().all() for one in learned)
    assert all(one.dtype != torch.bfloat16 and one.isfinite().all() for one in rough.state_dict().values())


def test_an_lstm_computes_in_float32():
    """A cell that forgets nothing would stop adding up."""
    module, mask = BiLSTM(hidden=8).build(4).eval(), torch.ones(1, 400, dtype=torch.bool)
    with torch.no_grad():
        for name, bias in module.lstm.named_parameters():
            if name.startswith("bias_ih"):
                bias[8:16] = 6.0  # of the forget gates
    values = frames(mask, 4).bfloat16()
    expected = module(values.float(), mask).values
    for given in (values, values.float()):
        with torch.autocast("cpu", torch.bfloat16):
            assert torch.equal(module(given, mask).values, expected)


def test_a_mean_counts_more_frames_than_half_precision_can():
    values, mask = torch.ones(1, 257, 1, dtype=torch.bfloat16), torch.ones(1, 257, dtype=torch.bool)
    values[0, 0] = 0
    assert float(masked_mean(values, mask)) == pytest.approx(256 / 257, abs=1e-6)


@pytest.mark.parametrize(("capability", "remarks"), [("AVX2", 1), ("AVX512", 0)])
def test_a_processor_without_bfloat16_is_remarked_on(monkeypatch, store, tmp_path, capability, remarks):
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    for precision, expected in (("float32", 0), ("bfloat16", remarks)):
        config = load(TrainConfig, [], ["device=cpu", f"precision={precision}"])
        path = tmp_path / precision
        path.mkdir()
        folder, _ = prepare(store, config, lambda _, path=path: path)
        said = [line for line in folder.note["warnings"] if "AVX-512" in line]
        assert len(said) == expected


def test_a_run_in_bfloat16_is_the_same_again_and_predicts_as_it_was_tested(store, tmp_path):
    def trained(name, *overrides):
        quick = ["optim.epochs=2", "folds=[0]", "plots=false", "baseline=false", "workers=1"]
        config = load(TrainConfig, [], [*quick, f"runs={tmp_path / name}", *overrides])
        return run(store, config, lambda _: None)[0]

    first, again, precise = trained("first", BFLOAT16), trained("again", BFLOAT16), trained("precise")
    tested = (first / "predictions.csv").read_bytes()
    assert (again / "predictions.csv").read_bytes() == tested
    assert (precise / "predictions.csv").read_bytes() != tested
    table = pd.read_csv(first / "predictions.csv", index_col="name")
    columns = list(table.filter(like="_model"))
    predicted = Run.open(first).predict(store, list(table.index))
    assert np.array_equal(predicted.loc[table.index, columns], table[columns])
