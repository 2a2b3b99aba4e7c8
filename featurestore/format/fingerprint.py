"""A digest of the content of a store, which tells whether a file is the expected one."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

from featurestore.format.backend import Backend
from featurestore.format.documents import as_json
from featurestore.format.layout import PLANNED, plan_checksums
from featurestore.shared.errors import StoreError


def fingerprint(backend: Backend) -> str:
    """Return the SHA-256 of all small parts of a store, among them the checksums of the others.

    Two files have the same fingerprint if they have the same content. A damaged part counts as damaged, however it is.
    """
    digest = hashlib.sha256()

    def take(read: Callable[..., Any], *arguments: Any) -> Any:
        try:
            found = read(*arguments)
        except StoreError:
            found = "damaged"
        digest.update(as_json(found))
        return found

    take(backend.attributes)
    take(backend.attributes, "table")
    names = take(backend.features)
    for name in names if isinstance(names, list) else ():
        take(backend.manifest, name)
        take(plan_of, backend, name)
    return digest.hexdigest()


def plan_of(backend: Backend, feature: str) -> dict[str, int]:
    """Return the checksums of the present plan of a feature."""
    arrays = {array: backend.array(f"features/{feature}/{array}") for array in PLANNED}
    return plan_checksums(backend.spec(feature), arrays)
