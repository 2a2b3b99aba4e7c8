"""Stage 2: models on stored features. ``train.Run.open(folder).predict(store)`` uses those of a run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from train.running.opened import Run

__all__ = ["Run"]


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])


def __getattr__(name: str) -> Any:
    """Import on first use: commands that need no torch start at once."""
    if name != "Run":
        raise AttributeError(f"module 'train' has no attribute {name!r}")
    from train.running.opened import Run

    return Run
