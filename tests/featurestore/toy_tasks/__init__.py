"""Tasks: what is learned; a kind of parts for the tests."""

from __future__ import annotations

from featurestore.shared.config import Component


class Task(Component):
    """A task."""

    weight: float = 1.0
    """Of its loss."""
