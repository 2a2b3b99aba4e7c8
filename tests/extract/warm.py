"""All that ser-extract imports, some of it when something is first done, for `tests.processes`."""

import tempfile
import threading
from pathlib import Path

import audformat
import distributed
import soundfile
import torch
from transformers import AutoTokenizer, RobertaModel

import extract.cli
import extract.forecast
import extract.selftest
from extract.config import ExtractConfig
from extract.run import extract as extract_all
from featurestore.shared.config import load
from tests.extract.samples import noise

torch.set_num_threads(1)  # as every command does; the threads of others would be missing where this is forked
with tempfile.TemporaryDirectory() as folder:
    soundfile.write(Path(folder) / "u.wav", noise(8000), 16_000)
    features = ["encoder.checkpoint=hubert-tiny-untrained", "pitch={}", "logmel={}", "workers=1"]
    extract_all(
        load(ExtractConfig, [], ["dataset=folder", f"dataset.root={folder}", f"store={folder}/s.zarr", *features])
    )
assert threading.active_count() == 1
