"""What transformers knows and does not say in public: looked up in transformers 5.23.

Everything else in `extract` goes by public names.
"""

from __future__ import annotations

from typing import Any


def commit_of(config: Any) -> str | None:
    """Return the commit on the hub from which a model's own settings were loaded; None if that is not known."""
    return getattr(config, "_commit_hash", None)
