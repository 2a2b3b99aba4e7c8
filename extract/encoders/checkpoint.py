"""Find and load checkpoints: short names from checkpoints.yaml, or local folders."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from importlib.resources import files
from logging import CRITICAL
from pathlib import Path
from textwrap import shorten
from typing import TYPE_CHECKING, Any

import yaml
from pydantic import model_validator

from featurestore.shared.config import Config, suggest
from featurestore.shared.errors import SerError

if TYPE_CHECKING:
    import torch

MODELS = {
    "data2vec-audio": "Data2VecAudioModel",
    "hubert": "HubertModel",
    "unispeech-sat": "UniSpeechSatModel",
    "wav2vec2": "Wav2Vec2Model",
    "wav2vec2-bert": "Wav2Vec2BertModel",
    "wavlm": "WavLMModel",
    "whisper": "WhisperEncoder",
}
TEXT_MODELS = {
    "bert": "BertModel",
    "distilbert": "DistilBertModel",
    "electra": "ElectraModel",
    "roberta": "RobertaModel",
    "xlm-roberta": "XLMRobertaModel",
}
ENCODER_KEYS = {r"^(model\.)?encoder\.": ""}  # in checkpoints that hold the decoder too
UNUSED_WEIGHTS = ("masked_spec_embed", "pooler.")  # of pre-training; absent from some checkpoints


class Checkpoint(Config):
    """Where an encoder's weights are, and what it was trained on; an entry of checkpoints.yaml."""

    id: str | None = None
    """On the Hugging Face hub, or a local folder."""
    revision: str | None = None
    """A commit, tag or branch on the hub."""
    normalize: bool | None = None
    """Whether it was trained on waveforms of zero mean and unit variance; as its own files say when absent."""
    text: bool = False
    """Whether it is an encoder of text."""
    seed: int | None = None
    """For random weights."""
    config: dict[str, Any] | None = None
    """The model's own settings, for random weights."""

    @model_validator(mode="after")
    def _has_weights(self) -> Checkpoint:
        if (self.id is None) == (self.config is None):
            raise ValueError("expected either an id, or a config with a seed")
        return self


@cache
def known() -> dict[str, Checkpoint]:
    """Return the checkpoints that have short names."""
    entries = yaml.safe_load((files("extract") / "checkpoints.yaml").read_text(encoding="utf-8"))
    return {name: Checkpoint(**entry) for name, entry in entries.items()}


def short_names(*, text: bool) -> list[str]:
    """Return the short names of the encoders of text, or those of speech."""
    return [name for name, checkpoint in known().items() if checkpoint.text == text]


def find(name: str) -> Checkpoint:
    """Return the checkpoint of a short name or of a local folder.

    Raises:
        ValueError: if it is neither.
    """
    if name in known():
        return known()[name]
    folder = Path(name)
    if (folder / "config.json").exists():
        return Checkpoint(id=name)
    if folder.is_dir():
        raise ValueError(f"the folder {name} has no config.json: expected a checkpoint in Hugging Face's layout")
    raise ValueError(f"no encoder {name!r}{suggest(name, known())}, or the path of a local folder")


def load_normalize(checkpoint: Checkpoint) -> bool:
    """Return whether the encoder was trained on normalised input, as its preprocessor_config.json says.

    Raises:
        SerError: if that file cannot be loaded, and the checkpoint is not a local folder.
    """
    from transformers.feature_extraction_utils import FeatureExtractionMixin

    if checkpoint.normalize is not None:
        return checkpoint.normalize
    if Path(str(checkpoint.id)).is_dir() and not (Path(str(checkpoint.id)) / "preprocessor_config.json").exists():
        return False
    settings, _ = load_with(FeatureExtractionMixin.get_feature_extractor_dict, checkpoint)
    per_bin = settings.get("feature_extractor_type") == "SeamlessM4TFeatureExtractor"  # normalises unless told not to
    return bool(settings.get("do_normalize", per_bin))


def load_config(checkpoint: Checkpoint, models: Mapping[str, str] = MODELS) -> Any:
    """Return the model's own settings.

    Args:
        checkpoint: of the model.
        models: the class of each model type that is expected.

    Raises:
        SerError: if they cannot be loaded, or belong to a family that is not supported.
    """
    from transformers import AutoConfig

    if checkpoint.config is not None:
        config = AutoConfig.for_model(**checkpoint.config)
    else:
        config = load_with(AutoConfig.from_pretrained, checkpoint)
    if config.model_type not in models:
        found = checkpoint.id or "a checkpoint without an id"
        raise SerError(f"{found} is a {config.model_type} model; expected one of {', '.join(models)}")
    return config


def load_model(checkpoint: Checkpoint, models: Mapping[str, str] = MODELS) -> torch.nn.Module:
    """Return the frozen encoder in float32, in evaluation mode, on the CPU; the arguments are those of `load_config`.

    Raises:
        SerError: if its weights cannot be loaded, or some of them are missing.
    """
    import torch
    import transformers
    from transformers.models.whisper.modeling_whisper import WhisperEncoder

    config = load_config(checkpoint, models)
    class_name = models[config.model_type]
    kind = WhisperEncoder if class_name == "WhisperEncoder" else getattr(transformers, class_name)
    if checkpoint.config is not None:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(checkpoint.seed or 0)
            model = kind(config)
    else:
        model = _pretrained(kind, checkpoint)
    if hasattr(model, "pooler"):
        model.pooler = None  # it follows the last layer; a checkpoint without it would get random weights
    return model.eval().requires_grad_(False)


def _pretrained(kind: Any, checkpoint: Checkpoint) -> Any:
    import torch

    model, found = load_with(
        kind.from_pretrained,
        checkpoint,
        dtype=torch.float32,
        key_mapping=ENCODER_KEYS if kind.__name__ == "WhisperEncoder" else None,
        output_loading_info=True,
    )
    missing = sorted(name for name in found["missing_keys"] if not name.startswith(UNUSED_WEIGHTS))
    if missing:
        raise SerError(f"{checkpoint.id} lacks {len(missing)} weights of the encoder, e.g. {missing[0]}")
    return model


def load_with(load: Callable[..., Any], checkpoint: Checkpoint, **how: Any) -> Any:
    """Load something of a checkpoint with a function of transformers; all access to its files goes through here.

    Code in the checkpoint is never run. Messages of the libraries, on retries and unused weights, are not printed.

    Raises:
        SerError: if it cannot be loaded.
    """
    with _quiet():
        try:
            return load(str(checkpoint.id), revision=checkpoint.revision, trust_remote_code=False, **how)
        except Exception as error:  # damaged files raise anything
            raise not_loaded(checkpoint, error) from None


@contextmanager
def _quiet() -> Iterator[None]:
    """Let transformers and the client of the hub print nothing."""
    from huggingface_hub.utils import logging as hub
    from transformers.utils import logging

    verbosity, hub_verbosity = logging.get_verbosity(), hub.get_verbosity()
    logging.set_verbosity(CRITICAL)
    hub.set_verbosity(CRITICAL)
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        hub.set_verbosity(hub_verbosity)


def hash_weights(model: torch.nn.Module) -> str:
    """Return the SHA-256 of a model's weights."""
    import torch

    digest = hashlib.sha256()
    for name, weight in sorted(model.state_dict().items()):
        digest.update(name.encode())
        digest.update(weight.cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def not_loaded(checkpoint: Checkpoint, error: Exception) -> SerError:
    """Return the error that says why a checkpoint cannot be loaded, and what to do."""
    kind = "" if isinstance(error, (OSError, ValueError)) and str(error) else f"{type(error).__name__}: "
    reason = shorten(f"{kind}{error}", 200, placeholder=" ...")
    if Path(str(checkpoint.id)).exists():
        return SerError(f"the checkpoint in {checkpoint.id} cannot be loaded: {reason}")
    reason = re.split(" See | Check your ", reason)[0].rstrip(". ")  # the hub's advice; ours follows
    return SerError(
        f"the checkpoint {checkpoint.id} cannot be loaded: {reason}. Offline, fetch it once on a machine with "
        f"a network (hf download {checkpoint.id} --local-dir DIR) and give DIR in its place"
    )
