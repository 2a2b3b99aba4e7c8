"""Ways to read utterances with other libraries, each as its own documentation does it."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Sequence
from functools import lru_cache
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from measure import aligned
from states import DIM, FEATURE, LAYERS, Data
from ways import Read, Way

import featurestore

TOGETHER = 32
"""Utterances in a safetensors file."""


class Npy(Way):
    """A .npy file per utterance: np.load, mapped where one layer is read."""

    def write(self, data: Data, folder: Path, rows: Sequence[int]) -> None:
        for row in rows:
            np.save(folder / f"{data.names[row]}.npy", data.values(row))

    def open(self, data: Data, folder: Path) -> Read:
        buffer = aligned(data.largest // LAYERS).view(np.float16)

        def load(row: int, layer: int | None) -> None:
            path = folder / f"{data.names[row]}.npy"
            if layer is None:
                np.load(path)
            else:
                found = np.load(path, mmap_mode="r")[layer]
                np.copyto(buffer[: found.size].reshape(found.shape), found)

        return lambda rows, layer: deque((load(row, layer) for row in rows), 0)


class Safetensors(Way):
    """Files of 32 utterances, kept open; a tensor per utterance, slices of it for one layer."""

    needs = ("safetensors",)

    def write(self, data: Data, folder: Path, rows: Sequence[int]) -> None:
        from safetensors.numpy import save_file

        for number in range(-(-len(data.names) // TOGETHER)):
            mine = [row for row in rows if row // TOGETHER == number]
            if mine:
                save_file({data.names[r]: np.array(data.values(r)) for r in mine}, folder / f"{number}.safetensors")

    def open(self, data: Data, folder: Path) -> Read:
        from safetensors import safe_open

        opened = lru_cache(None)(lambda number: safe_open(folder / f"{number}.safetensors", "numpy"))

        def load(row: int, layer: int | None) -> object:
            file, name = opened(row // TOGETHER), data.names[row]
            return file.get_tensor(name) if layer is None else file.get_slice(name)[layer]

        return lambda rows, layer: deque((load(row, layer) for row in rows), 0)


class H5py(Way):
    """An HDF5 file with a contiguous dataset per utterance, read_direct into one buffer."""

    def write(self, data: Data, folder: Path, rows: Sequence[int]) -> None:
        import h5py

        with h5py.File(folder / "utterances.h5", "w", libver="latest") as file:
            for row in rows:
                file.create_dataset(data.names[row], data=data.values(row))

    def open(self, data: Data, folder: Path) -> Read:
        import h5py

        file, buffer = h5py.File(folder / "utterances.h5", "r"), aligned(data.largest).view(np.float16)

        def load(row: int, layer: int | None) -> None:
            dataset = file[data.names[row]]
            shape = dataset.shape if layer is None else dataset.shape[1:]
            target = buffer[: int(np.prod(shape))].reshape(shape)
            dataset.read_direct(target, np.s_[:] if layer is None else np.s_[layer])

        return lambda rows, layer: deque((load(row, layer) for row in rows), 0)


class ZarrOnOurs(Way):
    """Our store through zarr-python: with its own pipeline, or with that of zarrs."""

    def __init__(self, *needs: str) -> None:
        self.needs = ("zarr", *needs)  # type: ignore[misc]

    def places(self, data: Data, folder: Path) -> list[Path]:
        return [data.folder / "store.zarr"]

    def open(self, data: Data, folder: Path) -> Read:
        import zarr

        if "zarrs" in self.needs:
            zarr.config.set({"codec_pipeline.path": "zarrs.ZarrsCodecPipeline"})
        place = self.places(data, folder)[0]
        return _flat(data, place, zarr.open_array(place / "features" / FEATURE / "data", mode="r"))


class TensorstoreOnOurs(Way):
    """Our store through tensorstore."""

    needs = ("tensorstore",)

    def places(self, data: Data, folder: Path) -> list[Path]:
        return [data.folder / "store.zarr"]

    def open(self, data: Data, folder: Path) -> Read:
        import tensorstore

        place = self.places(data, folder)[0]
        store = {"driver": "file", "path": str(place / "features" / FEATURE / "data")}
        array = tensorstore.open({"driver": "zarr3", "kvstore": store}, open=True, read=True).result()
        return _flat(data, place, array, lambda found: found.read().result())


def _flat(data: Data, store: Path, array: Any, finish: Any = lambda found: found) -> Read:
    """Return what reads ``array`` (layer, frame, dim) of our store."""
    starts = featurestore.open(store).feature(FEATURE).planned["start"].tolist()

    def load(row: int, layer: int | None) -> object:
        span = slice(starts[row], starts[row] + data.frames[row])
        return finish(array[slice(None) if layer is None else layer, span])

    return lambda rows, layer: deque((load(row, layer) for row in rows), 0)


class ZarrPerUtterance(Way):
    """zarr-python's default layout: an array per utterance, in chunks that it chooses, zstd unless told not to."""

    needs = ("zarr",)
    most = 64

    def __init__(self, **settings: object) -> None:
        self._settings = settings

    def write(self, data: Data, folder: Path, rows: Sequence[int]) -> None:
        import zarr

        group = zarr.create_group(folder / "utterances.zarr")
        for row in rows:
            values = data.values(row)
            group.create_array(data.names[row], shape=values.shape, dtype=values.dtype, **self._settings)[:] = values

    def open(self, data: Data, folder: Path) -> Read:
        import zarr

        group = zarr.open_group(folder / "utterances.zarr", mode="r")

        def load(row: int, layer: int | None) -> object:
            return group[data.names[row]][slice(None) if layer is None else layer]

        return lambda rows, layer: deque((load(row, layer) for row in rows), 0)


class Lhotse(Way):
    """A matrix (frame, layers x channels) per utterance; one layer of it costs reading all.

    Args:
        kind: of lhotse's writers and readers, before ``Writer``.
        most: see `Way`.
    """

    needs = ("lhotse", "lilcom")

    def __init__(self, kind: str, most: int) -> None:
        self._kind, self.most = kind, most

    def write(self, data: Data, folder: Path, rows: Sequence[int]) -> None:
        kind = getattr(import_module("lhotse.features.io"), f"{self._kind}Writer")
        keys = {}
        with kind(folder / "utterances") as writer:
            for row in rows:
                matrix = data.values(row).swapaxes(0, 1).reshape(data.frames[row], -1)
                keys[row] = writer.write(data.names[row], matrix if "Lilcom" not in self._kind else np.float32(matrix))
        (folder / "keys.json").write_text(json.dumps(keys))

    def open(self, data: Data, folder: Path) -> Read:
        kind = getattr(import_module("lhotse.features.io"), f"{self._kind}Reader")
        keys = {int(row): key for row, key in json.loads((folder / "keys.json").read_text()).items()}
        path = next(file for file in folder.iterdir() if file.suffix in (".h5", ".lca"))
        reader = kind(path)

        def load(row: int, layer: int | None) -> object:
            found = reader.read(keys[row])
            return found if layer is None else found[:, layer * DIM : (layer + 1) * DIM]

        return lambda rows, layer: deque((load(row, layer) for row in rows), 0)


ZARR_ON_OURS, H5PY = "zarr-python on our store", "h5py, contiguous dataset per utterance"
OTHERS: dict[str, Way] = {
    "npy file per utterance": Npy(),
    "safetensors, 32 utterances a file": Safetensors(),
    H5PY: H5py(),
    ZARR_ON_OURS: ZarrOnOurs(),
    "zarrs on our store": ZarrOnOurs("zarrs"),
    "tensorstore on our store": TensorstoreOnOurs(),
    "zarr-python, array per utterance, its defaults": ZarrPerUtterance(),
    "zarr-python, array per utterance, uncompressed": ZarrPerUtterance(compressors=None),
    "lhotse NumpyHdf5Writer": Lhotse("NumpyHdf5", 64),
    "lhotse LilcomChunkyWriter": Lhotse("LilcomChunky", 8),
    "lhotse ChunkedLilcomHdf5Writer": Lhotse("ChunkedLilcomHdf5", 8),
}
