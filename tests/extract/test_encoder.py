"""The gate: hidden states do not depend on the batch, and are those of the library."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
import transformers
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from extract.audio import read_wave
from extract.config import ExtractConfig
from extract.encoders.checkpoint import MODELS, known
from extract.encoders.families import FAMILIES as FAMILIES_OF_MODELS
from extract.encoders.transfer import Outbox
from extract.features.encoder import Encoder, cut_windows, join_windows
from featurestore.access.batch_order import batch_order
from featurestore.format.codec import encode
from featurestore.shared.config import load
from featurestore.shared.errors import ConfigError, SerError
from tests.benchmarks.extraction.models import build, save
from tests.extract.samples import FAMILIES, computed, noise, shared

NORMALIZED = [family for family in FAMILIES if "pre-norm" in family or family == "w2v-bert"]
LENGTHS = (560, 719, 8_000, 24_013, 16_000, 48_000, 24_013)


@pytest.fixture(scope="module", params=FAMILIES)
def checkpoint(request, tmp_path_factory) -> Path:
    """A folder in Hugging Face's layout with random weights, none of them at its trivial initial value."""
    folder = tmp_path_factory.mktemp("checkpoints") / request.param
    return save(build(*FAMILIES[request.param], 0.05), folder, request.param in NORMALIZED)


def waves():
    return [noise(samples, seed, level=0.02 * (1 + seed)) for seed, samples in enumerate(LENGTHS)]


def assert_exact(found, alone):
    assert found.shape == alone.shape
    for ours, theirs in zip(found, alone, strict=True):  # each layer
        assert np.linalg.norm(ours - theirs) <= 5e-6 * np.linalg.norm(theirs)
        assert np.abs(ours - theirs).max() <= 3e-5 * max(1.0, theirs.std())


@pytest.mark.parametrize("trim", [False, True])
def test_a_batch_changes_nothing(checkpoint, trim):
    if trim and "whisper" not in checkpoint.name:
        pytest.skip("only Whisper encodes more than there is")
    encoder = Encoder(checkpoint=str(checkpoint), trim=trim, batch_seconds=120).build()
    together = computed(encoder, waves())
    for i, wave in enumerate(waves()):
        (alone,) = computed(encoder, [wave])
        assert alone.shape == (4, encoder.place(len(wave))[0], 32)
        assert_exact(together[i], alone)


def test_the_states_are_those_of_the_library(checkpoint):
    version = transformers.__version__.partition(".")[0]
    encoder = Encoder(checkpoint=str(checkpoint), hidden_states=f"transformers{version}").build()
    model = transformers.AutoModel.from_pretrained(checkpoint).eval()
    processors = {"whisper": transformers.WhisperFeatureExtractor, "w2v-bert": transformers.SeamlessM4TFeatureExtractor}
    processor = processors.get(checkpoint.name, transformers.Wav2Vec2FeatureExtractor)
    processor = processor() if checkpoint.name in processors else processor.from_pretrained(checkpoint)
    for i, states in enumerate(computed(encoder, waves())):
        inputs = processor(waves()[i], sampling_rate=16_000, return_tensors="pt")
        with torch.inference_mode():
            if "whisper" in checkpoint.name:
                output = model.encoder(inputs.input_features, output_hidden_states=True)
            else:
                output = model(**inputs, output_hidden_states=True)
        library = torch.stack(output.hidden_states)[:, 0, : states.shape[1]].numpy()
        assert_exact(states, library)


def test_the_final_norm_is_an_explicit_choice(checkpoint):
    wave = noise(16_000)
    (raw,) = computed(Encoder(checkpoint=str(checkpoint)).build(), [wave])
    (normed,) = computed(Encoder(checkpoint=str(checkpoint), hidden_states="transformers4").build(), [wave])
    assert np.array_equal(raw[:-1], normed[:-1])
    model = transformers.AutoModel.from_pretrained(checkpoint).eval()
    encoder = model.encoder
    normed_last = "pre-norm" in checkpoint.name or "whisper" in checkpoint.name
    expected = raw[-1] if not normed_last else encoder.layer_norm(torch.from_numpy(raw[-1])).detach().numpy()
    assert np.allclose(normed[-1], expected, atol=1e-5)


@pytest.mark.parametrize(("precision", "bound"), [("bfloat16", 2.5e-2)])
def test_half_precision_is_close(checkpoint, precision, bound):
    wave = noise(16_000)
    (full,) = computed(Encoder(checkpoint=str(checkpoint)).build(), [wave])
    encoder = Encoder(checkpoint=str(checkpoint), precision=precision).build()
    assert encoder.spec().provenance["settings"]["precision"] == precision
    (half,) = computed(encoder, [wave])
    assert np.linalg.norm(full - half) <= bound * np.linalg.norm(full)


def test_normalisation_is_that_of_the_checkpoint_unless_asked(checkpoint):
    if checkpoint.name in ("whisper", "w2v-bert"):
        pytest.skip("it reads log-mel frames")
    trained = Encoder(checkpoint=str(checkpoint)).build()
    assert trained.settings()["normalize"] == ("pre-norm" in checkpoint.name)
    (normalised,) = computed(Encoder(checkpoint=str(checkpoint), normalize=True).build(), [noise(8000)])
    (louder,) = computed(Encoder(checkpoint=str(checkpoint), normalize=True).build(), [4 * noise(8000)])
    assert np.allclose(normalised, louder, atol=1e-3)


def test_the_spec_is_known_before_anything_runs(checkpoint):
    encoder = Encoder(checkpoint=str(checkpoint)).build()
    spec = encoder.spec()
    assert (spec.layers, spec.dim, spec.hop, encoder.feature.key) == (4, 32, 0.02, checkpoint.name)
    assert len(spec.provenance["weights"]) == 64
    assert spec.provenance["settings"]["trim"] is False
    assert "batch_seconds" not in spec.provenance["settings"]


def test_too_short_and_too_long():
    encoder = Encoder(checkpoint="hubert-tiny-untrained").build()
    assert encoder.place(400) == (1, 0.0125)
    with pytest.raises(ValueError, match="10 ms is shorter than one frame of hubert-tiny-untrained"):
        encoder.place(160)


def test_frames_of_whisper(checkpoint):
    if "whisper" not in checkpoint.name:
        pytest.skip("a window of 30 s is Whisper's")
    encoder = Encoder(checkpoint=str(checkpoint)).build()
    assert encoder.place(16_001) == (51, 0.0)
    assert encoder.place(480_000)[0] == 1500
    assert encoder.place(480_001)[0] == 1501  # in two windows


@pytest.mark.parametrize("seconds", [4.0, 6.1])
def test_windows_of_long_audio_meet_in_the_middle_of_their_overlap(checkpoint, seconds):
    """Away from the seams, what a window does not see is all that differs."""
    if "whisper" in checkpoint.name:
        pytest.skip("it has windows of 30 s, and is not compared with what it cannot do")
    wave = noise(round(16_000 * seconds))
    (whole,) = computed(Encoder(checkpoint=str(checkpoint)).build(), [wave])
    windowed = Encoder(checkpoint=str(checkpoint), window=2.0, overlap=0.5).build()
    found, short = computed(windowed, [wave, noise(16_000)])
    assert found.shape == whole.shape
    assert_exact(short, computed(Encoder(checkpoint=str(checkpoint)).build(), [noise(16_000)])[0])
    error = np.linalg.norm(found - whole) / np.linalg.norm(whole)
    assert 1e-4 < error < 0.5
    if (
        checkpoint.name != "w2v-bert"
    ):  # its layers convolve, the input of the first layer of others sees the front alone
        assert np.abs(found[0] - whole[0]).max() <= 3e-5 * max(1.0, whole[0].std())


def test_whisper_takes_long_audio_in_windows(checkpoint):
    if "whisper" not in checkpoint.name:
        pytest.skip("others take long audio at once")
    wave, encoder = noise(40 * 16_000), Encoder(checkpoint=str(checkpoint), overlap=4.0).build()
    assert encoder.settings()["window"] == 30.0
    (found,) = computed(encoder, [wave])
    assert found.shape == (4, 2000, 32)
    first, last = computed(encoder, [wave[:480_000], wave[160_000:]])
    assert_exact(found[:, :1000], first[:, :1000])
    assert_exact(found[:, 1000:], last[:, 500:])
    with pytest.raises(SerError, match="expected windows of at most 30 s"):
        computed(Encoder(checkpoint=str(checkpoint), window=31.0).build(), [wave])


@given(st.integers(1, 400), st.integers(2, 60), st.data())
def test_windows_give_every_frame_once(frames, most, data):
    overlap = data.draw(st.integers(0, most - 1))
    windows = cut_windows(frames, most, overlap)
    states = [torch.arange(start, stop)[None, :, None] for start, stop in windows]
    assert all(0 < stop - start <= most for start, stop in windows)
    assert join_windows(states, windows).ravel().tolist() == list(range(frames))


def test_an_overlap_as_long_as_the_window_is_refused():
    for settings in ({"window": 3.0}, {"window": 5.0, "overlap": 5.0}):
        with pytest.raises(SerError, match="expected less than the window, which is"):
            Encoder(checkpoint="hubert-tiny-untrained", **settings).build().spec()
    with pytest.raises(SerError, match=r"window=0\.009: expected windows of at least 0\.02 s"):
        Encoder(checkpoint="hubert-tiny-untrained", window=0.009, overlap=0.0).build().spec()


def test_what_half_precision_cannot_hold_is_computed_in_float32(tmp_path):
    """A weight is so large that float16 overflows for a loud utterance, not for a quiet one."""
    torch.manual_seed(0)
    model = transformers.HubertModel(transformers.HubertConfig(**FAMILIES["hubert-pre-norm"][1]))
    with torch.no_grad():
        model.encoder.layers[1].feed_forward.output_dense.weight *= 1e7
    model.save_pretrained(tmp_path)
    one, other = computed_with_flags(tmp_path, "float16"), computed_with_flags(tmp_path, "float32")
    assert one[0].flag == "computed in float32: float16 gave values that cannot be stored"
    assert other[0].flag == ""
    encoder = Encoder(checkpoint=str(tmp_path), precision="float16").build()
    (sent,) = encoder.send([noise(8000)], Outbox(torch.device("cpu"), "int8"))
    assert (sent.flag, sent.frames.tolist()) == (one[0].flag, one[0].frames.tolist())
    assert np.array_equal(one[0].frames, other[0].frames)


def test_what_float32_cannot_hold_is_not_computed_again_from_other_weights(tmp_path):
    encoder = Encoder(checkpoint="hubert-tiny-untrained", precision="float32").build()
    assert encoder._precise is encoder._backbone


@pytest.mark.parametrize("window", [None, 0.5])
def test_the_callers_gradients_go_on_between_two_utterances(window):
    encoder = Encoder(checkpoint="hubert-tiny-untrained", window=window, overlap=0.1, batch_seconds=0.5).build()
    for found in (encoder.compute(waves()), encoder.send(waves(), Outbox(torch.device("cpu"), "int8"))):
        next(found)
        assert not torch.is_inference_mode_enabled()
        assert len(list(found)) == len(LENGTHS) - 1


def test_a_folder_with_the_name_of_a_feature_is_refused(tmp_path):
    (tmp_path / "pitch").mkdir()
    transformers.HubertConfig(**FAMILIES["hubert-group"][1]).save_pretrained(tmp_path / "pitch")
    settings = ["dataset=demo", "pitch={}", f"encoder.checkpoint={tmp_path / 'pitch'}"]
    with pytest.raises(ConfigError, match="the encoder's folder is called pitch, like a feature: rename the folder"):
        load(ExtractConfig, [], settings).features()


def test_what_a_gpu_would_send_is_what_the_store_makes_of_the_states(checkpoint):
    encoder = Encoder(checkpoint=str(checkpoint), window=2.0, overlap=0.5, trim=True).build()
    sent = {one.position: one for one in encoder.send(waves(), Outbox(torch.device("cpu"), "int8"))}
    for i, states in enumerate(computed(encoder, waves())):
        expected = encode(states, "int8")
        assert np.array_equal(sent[i].frames.values, expected.values)
        assert np.array_equal(sent[i].frames.scale, expected.scale)
        assert np.allclose(sent[i].mean, states.mean(axis=1), atol=1e-5)


def computed_with_flags(folder, precision):
    return list(Encoder(checkpoint=str(folder), precision=precision).build().compute([noise(8000)]))


def test_epsilon_matters_for_quiet_speech(tmp_path):
    torch.manual_seed(0)
    model = transformers.HubertModel(transformers.HubertConfig(**FAMILIES["hubert-pre-norm"][1]))
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(0.05 * torch.randn_like(weight))
    model.save_pretrained(tmp_path)
    encoders = [Encoder(checkpoint=str(tmp_path), normalize=True, epsilon=epsilon).build() for epsilon in (1e-7, 1e-5)]
    assert [encoder.settings()["epsilon"] for encoder in encoders] == [1e-7, 1e-5]
    quiet, loud = ([computed(one, [noise(8000, level=level)])[0] for one in encoders] for level in (0.003, 0.3))
    errors = [np.linalg.norm(a - b) / np.linalg.norm(a) for a, b in (quiet, loud)]
    assert errors[1] < 1e-3 < 0.02 < errors[0]


def test_every_family_has_a_model_and_a_way_to_read_it():
    assert set(FAMILIES_OF_MODELS) == set(MODELS)


@given(st.lists(st.integers(1, 300), min_size=1, max_size=50), st.integers(1, 600))
def test_batches_keep_to_their_budget(lengths, budget):
    batches = batch_order(lengths, frames=budget)
    assert sorted(i for batch in batches for i in batch) == list(range(len(lengths)))
    for batch in batches:
        assert len(batch) == 1 or len(batch) * max(lengths[i] for i in batch) <= budget


def test_a_wrong_checkpoint_is_said(tmp_path):
    with pytest.raises(ValidationError, match="no encoder 'hubert-lage'; did you mean 'hubert-large'"):
        Encoder(checkpoint="hubert-lage")
    with pytest.raises(ValidationError, match=r"has no config\.json"):
        Encoder(checkpoint=str(tmp_path))
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "bert"}))
    with pytest.raises(SerError, match="is a bert model; expected one of data2vec-audio, hubert, unispeech-sat"):
        Encoder(checkpoint=str(tmp_path)).build().place(16_000)


def test_missing_weights_are_not_replaced_by_random_ones(checkpoint, tmp_path):
    from safetensors.torch import load_file, save_file

    for name in ("config.json", "preprocessor_config.json"):
        (tmp_path / name).write_bytes((checkpoint / name).read_bytes())
    weights = load_file(checkpoint / "model.safetensors")
    gone = next(name for name in weights if "layers.1" in name and "encoder" in name)
    del weights[gone]
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(SerError, match=r"lacks 1 weights of the encoder, e\.g\. .*layers\.1"):
        Encoder(checkpoint=str(tmp_path)).build().spec()


def test_every_short_name_is_complete():
    assert {"hubert-large", "wav2vec2-large-robust", "wavlm-large", "whisper-base"} <= set(known())
    for name, checkpoint in known().items():
        assert checkpoint.id is None or checkpoint.revision, name


@pytest.mark.parametrize("trim", [True, False])
def test_the_gate_on_real_speech_and_weights(trim):
    """Channels of whisper-base reach 500, where float32 itself errs by more than the gate: that is then the bound."""
    folder, clips = shared("models", "whisper-base"), sorted(shared("corpora", "emotale", "wav").glob("*_1.flac"))
    chosen = [read_wave(clip) for clip in clips[:: len(clips) // (5 if trim else 2)]]
    encoder = Encoder(checkpoint=str(folder), trim=trim, batch_seconds=120).build()
    together = computed(encoder, chosen)
    alone = [computed(encoder, [wave])[0] for wave in chosen]
    encoder._backbone.model.double()
    for i, wave in enumerate(chosen):
        assert alone[i].shape[::2] == (7, 512)
        precise = computed(encoder, [wave])[0]
        for ours, theirs, exact in zip(together[i], alone[i], precise, strict=True):
            assert np.linalg.norm(ours - theirs) <= 5e-6 * np.linalg.norm(theirs)
            bound = max(3e-5 * max(1.0, theirs.std()), np.abs(theirs - exact).max())
            assert np.abs(ours - theirs).max() <= bound


def test_the_untrained_encoder_is_the_same_every_time(tmp_path):
    soundfile.write(tmp_path / "a.wav", noise(8000), 16_000)
    encoders = [Encoder(checkpoint="hubert-tiny-untrained").build() for _ in range(2)]
    states = [computed(encoder, [read_wave(tmp_path / "a.wav")])[0] for encoder in encoders]
    assert np.array_equal(*states)


def test_a_batch_that_exceeds_memory_is_done_in_halves():
    program = """
import resource
from pathlib import Path
import numpy as np
from extract.features.encoder import Encoder, is_lack_of_memory
from tests.extract.samples import computed, noise

waves = [noise(80_000, seed) for seed in range(120)]
whole, parts = (Encoder(checkpoint="hubert-tiny-untrained", batch_seconds=seconds).build() for seconds in (1e6, 20))
expected = computed(parts, waves)
fronts = [whole._backbone.front(wave) for wave in waves]
status = Path("/proc/self/status").read_text().splitlines()
used = next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmData"))
resource.setrlimit(resource.RLIMIT_DATA, (used + 100_000_000, -1))
try:
    whole._states(whole._backbone, fronts)
except RuntimeError as error:
    assert is_lack_of_memory(error), error
else:
    raise AssertionError("there is memory for all of it at once")
del fronts
for one in whole.compute(waves):
    assert np.abs(one.frames - expected[one.position]).max() < 1e-4
"""
    given_back = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536"}  # what is freed leaves no holes in the heap
    subprocess.run([sys.executable, "-c", program], check=True, cwd=Path(__file__).parents[2], env=given_back)
