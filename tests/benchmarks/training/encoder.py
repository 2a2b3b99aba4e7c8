"""The frozen encoder on a sample of clips, where nothing is stored: python encoder.py WHISPER AUDIO KIND

Only its forward passes are measured, one clip at a time in one thread, in windows of 30 s as its feature extractor pads
them; with KIND ``trimmed`` to the frames that hold speech, as our extraction does where it is asked to.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from laps import Laps
from transformers import WhisperFeatureExtractor, WhisperModel

from extract.audio import SAMPLING_RATE, read_wave
from extract.encoders.backbone import FRAME_SAMPLES

CLIPS = 4


def main(whisper: str, audio: str, kind: str) -> None:
    torch.set_num_threads(1)
    files = [file for file in Path(audio).rglob("*") if file.suffix in (".wav", ".flac")]
    step = max(1, len(files) // CLIPS)
    waves = [read_wave(file) for file in sorted(files, key=lambda file: file.stat().st_size)[step // 2 :: step][:CLIPS]]
    extractor = WhisperFeatureExtractor.from_pretrained(whisper)
    encoder = WhisperModel.from_pretrained(whisper).encoder.eval().float()
    mels = [extractor(wave, sampling_rate=SAMPLING_RATE, return_tensors="pt").input_features for wave in waves]
    frames = [-(-len(wave) // FRAME_SAMPLES) for wave in waves]
    positions, laps = encoder.embed_positions.weight, Laps()
    while True:
        for mel, count in zip(mels, frames, strict=True):
            if kind == "trimmed":
                mel = mel[..., : 2 * count]
                encoder.embed_positions = torch.nn.Embedding.from_pretrained(positions[:count])
                encoder.config.max_source_positions = count
            with torch.inference_mode():
                encoder(mel, output_hidden_states=True)
        laps(sum(frames))


main(*sys.argv[1:])
