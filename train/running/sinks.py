"""A finished run for TensorBoard and Weights & Biases: the epochs of metrics.jsonl, the figures, and the pictures."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from hashlib import sha256
from importlib import import_module
from pathlib import Path
from typing import Any

from featurestore.shared.errors import SerError

Sink = Callable[[Path, dict[str, Any], dict[str, Any]], None]
EPOCH = ("loss", "dev")
"""What is shown of each epoch."""


def check_sinks(names: tuple[str, ...]) -> None:
    """Check before anything is trained that the packages are there.

    Raises:
        SerError: naming one that is not.
    """
    for name in names:
        try:
            import_module(name)
        except ImportError:
            raise SerError(f"log=[{name}] needs pip install 'ser-featurestore[{name}]'") from None


def write_sinks(names: tuple[str, ...], folder: Path, config: dict[str, Any], results: dict[str, Any]) -> None:
    """Write a folder ``tensorboard`` or ``wandb`` in that of the run, in place of one that is there.

    Args:
        names: of the packages.
        folder: of the run, with its metrics.jsonl and plots.
        config: its settings.
        results: the content of its metrics.json.

    Raises:
        SerError: if a package is not there.
    """
    check_sinks(names)
    for name in names:
        shutil.rmtree(folder / name, ignore_errors=True)
        SINKS[name](folder, config, results)


def _to_tensorboard(folder: Path, config: dict[str, Any], results: dict[str, Any]) -> None:
    """Write event files: a line in the charts for each model, and the figures and pictures of the run."""
    from matplotlib.image import imread
    from torch.utils.tensorboard import SummaryWriter

    for model, epochs in _epochs(folder).items():
        with SummaryWriter(str(folder / "tensorboard" / model)) as writer:
            for epoch in epochs:
                for word in set(EPOCH) & set(epoch):
                    writer.add_scalar(f"epoch/{word}", epoch[word], epoch["epoch"])
    with SummaryWriter(str(folder / "tensorboard" / "run")) as writer:
        writer.add_text("config", f"```\n{json.dumps(config, indent=1, default=str)}\n```")
        for name, value in _figures(results):
            writer.add_scalar(name, value)
        for file in _pictures(folder):
            writer.add_image(file.stem, imread(file)[..., :3], dataformats="HWC")


def _to_wandb(folder: Path, config: dict[str, Any], results: dict[str, Any]) -> None:
    """Write a run of Weights & Biases that nothing is sent of; ``wandb sync`` does that."""
    import wandb

    known = str(folder.resolve()).encode() + (folder / "run.json").read_bytes()
    number = sha256(known).hexdigest()[:16]  # the same when the run is resumed
    name = "/".join(folder.parts[-4:])
    settings = wandb.Settings(silent=True, console="off", disable_git=True, disable_code=True)
    with wandb.init(
        mode="offline",
        dir=str(folder),
        id=number,
        name=name,
        project="ser-featurestore",
        config=config,
        settings=settings,
    ) as run:
        for model, epochs in _epochs(folder).items():
            run.define_metric(f"{model}/*", step_metric=f"{model}/epoch")
            for epoch in epochs:
                run.log({f"{model}/{word}": epoch[word] for word in ("epoch", *EPOCH) if word in epoch})
        run.log({**dict(_figures(results)), **{file.stem: wandb.Image(str(file)) for file in _pictures(folder)}})


SINKS: dict[str, Sink] = {"tensorboard": _to_tensorboard, "wandb": _to_wandb}


def _epochs(folder: Path) -> dict[str, list[dict[str, Any]]]:
    """Return what each model reached in its epochs; one that is trained again on dev too is another one."""
    found: dict[str, list[dict[str, Any]]] = {}
    for line in (folder / "metrics.jsonl").read_text().splitlines():
        epoch = json.loads(line)
        again = "_again" if epoch["again"] else ""
        found.setdefault(f"fold_{epoch['fold']}_member_{epoch['member']}{again}", []).append(epoch)
    return found


def _figures(results: dict[str, Any]) -> Iterator[tuple[str, float]]:
    """Yield every metric that is defined, and the ends of its interval."""
    for system, by_target in results["figures"].items():
        for target, metrics in by_target.items():
            for metric, figure in metrics.items():
                for word, suffix in (("value", ""), ("low", "_low"), ("high", "_high")):
                    if figure[word] is not None:
                        yield f"{system}/{target}/{metric}{suffix}", figure[word]


def _pictures(folder: Path) -> list[Path]:
    return sorted((folder / "plots").glob("*.png"))
