"""Files of tensors with a JSON note: safetensors, of which nothing is ever executed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load, save

from featurestore.shared.errors import SerError
from train.shared.files import write_whole

NOTE = "note"
Tensors = dict[str, torch.Tensor]


def write_tensors(path: Path, tensors: Tensors, note: dict[str, Any]) -> None:
    """Write a file that is there only when all of it is.

    Raises:
        SerError: if it cannot be written.
    """
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    write_whole(path, save(plain, {NOTE: json.dumps(note)}))


def read_tensors(path: Path) -> tuple[Tensors, dict[str, Any]]:
    """Return the tensors by name, and the note.

    The tensors are not read by `safe_open`: a Ctrl-C while torch looks at their storage would be raised as a
    ValueError, and a whole file would be called damaged.

    Raises:
        SerError: if the file is absent or damaged.
    """
    try:
        with safe_open(path, "numpy") as file:
            note = json.loads((file.metadata() or {})[NOTE])
        return load(path.read_bytes()), note
    except FileNotFoundError:
        raise SerError(f"{path} is missing: the run is not whole; ser-train resume makes what is missing") from None
    except (SafetensorError, KeyError, ValueError, OSError) as error:
        raise SerError(
            f"{path} is damaged: {str(error).splitlines()[0]}; delete it, ser-train resume makes it again"
        ) from None
