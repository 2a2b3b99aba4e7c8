"""One of several words."""

from __future__ import annotations

from tests.featurestore.toy_tasks import Task


class Tagging(Task):
    """The most likely word."""

    words: tuple[str, ...] = ("yes", "no")
    """To choose from."""
