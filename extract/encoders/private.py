"""Private attributes of transformers that we need, as they are in transformers 5.23.

The rest of `extract` uses public names only.
"""

from __future__ import annotations

from typing import Any


def commit_of(config: Any) -> str | None:
    """Return the commit on the hub from which a model's own settings were loaded; None if it is not known."""
    return getattr(config, "_commit_hash", None)
