"""Ways to get the hidden states of every layer of many utterances."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import numpy as np
import torch
import transformers

from extract.audio import SAMPLING_RATE, Wave
from extract.features.encoder import Encoder, EncoderExtractor

States = list[np.ndarray]
Way = Callable[[str, Sequence[Wave]], States]
BATCH = 16


@cache
def our_encoder(checkpoint: str, precision: str) -> EncoderExtractor:
    return Encoder(checkpoint=checkpoint, precision=precision).build()


def ours(checkpoint: str, waves: Sequence[Wave], precision: str = "float32") -> States:
    found = our_encoder(checkpoint, precision).compute(waves)
    return [one.frames for one in sorted(found, key=lambda one: one.position)]


def ours_in_bfloat16(checkpoint: str, waves: Sequence[Wave]) -> States:
    return ours(checkpoint, waves, "bfloat16")


@cache
def library(checkpoint: str) -> tuple[Any, Any]:
    """Return the model of transformers and the feature extractor of its checkpoint."""
    extractor = transformers.Wav2Vec2FeatureExtractor.from_pretrained(checkpoint)
    return transformers.AutoModel.from_pretrained(checkpoint).eval(), extractor


def file_by_file(checkpoint: str, waves: Sequence[Wave]) -> States:
    """What most people write: a loop over the files."""
    model, extractor = library(checkpoint)
    found = []
    with torch.inference_mode():
        for wave in waves:
            inputs = extractor(wave, sampling_rate=SAMPLING_RATE, return_tensors="pt")
            states = model(**inputs, output_hidden_states=True).hidden_states
            found.append(torch.stack(states)[:, 0].numpy())
    return found


def padded_batches(checkpoint: str, waves: Sequence[Wave]) -> States:
    """What the others write: batches in the order of the files, padded to the longest, with its attention mask."""
    model, extractor = library(checkpoint)
    found = []
    with torch.inference_mode():
        for start in range(0, len(waves), BATCH):
            some = list(waves[start : start + BATCH])
            inputs = extractor(
                some, sampling_rate=SAMPLING_RATE, return_tensors="pt", padding=True, return_attention_mask=True
            )
            states = torch.stack(model(**inputs, output_hidden_states=True).hidden_states)
            frames = model._get_feat_extract_output_lengths(torch.tensor([len(wave) for wave in some]))
            found += [states[:, row, : int(count)].numpy() for row, count in enumerate(frames)]
    return found


@cache
def upstream(checkpoint: str) -> Any:
    from s3prl.upstream.hf_hubert.expert import UpstreamExpert

    return UpstreamExpert(checkpoint).eval()


def s3prl(checkpoint: str, waves: Sequence[Wave]) -> States:
    """s3prl's upstream for checkpoints of transformers, in batches as above."""
    model, found = upstream(checkpoint), []
    with torch.inference_mode():
        for start in range(0, len(waves), BATCH):
            some = [torch.from_numpy(wave) for wave in waves[start : start + BATCH]]
            states = torch.stack(model(some)["hidden_states"])
            frames = library(checkpoint)[0]._get_feat_extract_output_lengths(torch.tensor([len(wave) for wave in some]))
            found += [states[:, row, : int(count)].numpy() for row, count in enumerate(frames)]
    return found


WAYS: dict[str, Way] = {
    "ours": ours,
    "file by file": file_by_file,
    "padded batches": padded_batches,
    "s3prl": s3prl,
    "ours, bfloat16": ours_in_bfloat16,
}


def padding(waves: Sequence[Wave]) -> float:
    """Return the share of padding in padded batches in the order of the files."""
    batches = [[len(wave) for wave in waves[start : start + BATCH]] for start in range(0, len(waves), BATCH)]
    return 1 - sum(map(sum, batches)) / sum(len(batch) * max(batch) for batch in batches)
