"""Choose the backend of a store, by the suffix of its path."""

from __future__ import annotations

import os
from pathlib import Path

from featurestore.format.backend import Backend
from featurestore.format.files import Files
from featurestore.format.local_files import LocalFiles
from featurestore.format.remote_files import RemoteFiles
from featurestore.format.zarr import ZarrBackend
from featurestore.shared.errors import StoreError

HDF5_SUFFIXES = (".h5", ".hdf5")


def open_backend(path: str | Path, partial: bool = False) -> Backend:
    """Return the backend of the store at ``path``, which need not exist.

    Args:
        path: of the store, or its URL.
        partial: also see the draft of an HDF5 file, which readers do not see yet; if there is no file, its draft is
            always seen.

    Raises:
        StoreError: if the suffix is that of no backend.
    """
    files = open_files(path)
    if not _is_hdf5(path, files):
        return ZarrBackend(files)
    from featurestore.format.hdf5 import Hdf5Backend  # here, since h5py is slow to import

    backend = Hdf5Backend(files)
    if isinstance(files, LocalFiles) and (partial or not backend.exists()):
        from featurestore.format.draft import DraftBackend

        draft = DraftBackend(Path(files.root))
        reason = draft.contradiction() if draft.begun() else ""
        if reason and not backend.exists():
            raise StoreError(reason)
        return draft if draft.begun() and not reason else backend
    return backend


def open_backend_to_write(path: str | Path) -> ZarrBackend:
    """Return the backend with which the store at ``path`` is written.

    Raises:
        StoreError: if the suffix is that of no backend, or the store is not on this machine.
    """
    files = open_files(path)
    if not isinstance(files, LocalFiles):
        raise StoreError(f"{path} is not on this machine, where stores are written: write it here and copy it")
    if _is_hdf5(path, files):
        from featurestore.format.draft import DraftBackend

        return DraftBackend(Path(files.root))
    return ZarrBackend(files)


def _is_hdf5(path: str | Path, files: Files) -> bool:
    suffix = Path(files.root).suffix
    if suffix not in ("", ".zarr", *HDF5_SUFFIXES):
        known = ", ".join((".zarr", *HDF5_SUFFIXES))
        raise StoreError(f"{path} ends in {suffix!r}; expected one of {known}")
    return suffix in HDF5_SUFFIXES


def open_files(path: str | Path) -> Files:
    """Return the files below a path or URL.

    >>> open_files("stores/emotale.zarr").place("zarr.json"), open_files("memory://a.zarr/").place("zarr.json")
    ('stores/emotale.zarr/zarr.json', 'memory://a.zarr/zarr.json')
    """
    root = str(path)
    if _is_url(root):
        return RemoteFiles(root.rstrip("/"))
    return LocalFiles(str(Path(root.removeprefix("file://"))))


def from_anywhere(path: str | Path) -> str:
    """Return a path by which it is found from any folder; a URL as it is.

    >>> from_anywhere("file:///stores/a.zarr"), from_anywhere("s3://stores/a.zarr")
    ('/stores/a.zarr', 's3://stores/a.zarr')
    """
    root = str(path)
    return root if _is_url(root) else os.path.abspath(root.removeprefix("file://"))


def _is_url(root: str) -> bool:
    return "://" in root and not root.startswith("file://")
