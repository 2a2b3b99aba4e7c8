"""The keyed store of frame-level features that both stages stand on: ``featurestore.open(path)``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from featurestore.access.store import Store


def open(path: str | Path, partial: bool = False) -> Store:
    """Open a store for reading.

    Args:
        path: of the store, or any fsspec URL (``s3://bucket/emotale.zarr``); .h5 and .hdf5 are HDF5 files.
        partial: also read features whose extraction is not finished.

    Raises:
        StoreError: if there is no store, or a newer version of this package has written it.

    >>> store = featurestore.open("stores/emotale.zarr")                    # doctest: +SKIP
    >>> store.utterances.loc["DK_001_A_1", ["speaker", "V", "A", "D"]]      # doctest: +SKIP
    >>> store["DK_001_A_1"]["whisper-base", 3:5].shape                      # doctest: +SKIP
    (2, 139, 512)
    """
    from featurestore.access.store import Store  # here, so that --help does not wait for pandas

    return Store(path, partial)
