"""Stores with one thing changed, by seed; what reading and verifying them ends in.

python -m tests.featurestore.fuzzing FOLDER FIRST COUNT    tells what is wrong, a line for each seed
"""

from __future__ import annotations

import faulthandler
import json
import os
import sys
import traceback
import warnings
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import h5py
import numpy as np

from featurestore.format import zarr
from tests.featurestore import probing
from tests.featurestore.lookup3 import metadata_blocks, with_checksum
from tests.featurestore.toy import Toy
from tests.processes import limit_memory

KINDS = {"toy.zarr": {}, "packed.zarr": {"compress": "zstd"}, "toy.h5": {}}
SECONDS = 20
VALUES = (0, -1, 1, 2**31, 2**63, 2**64, 10**400, 1e308, 1e400, float("nan"), "text", "", "..", None, True, [], {})
"""What takes the place of a value in JSON."""
NUMBERS = (0, -1, 1, 15, 2**31, 2**40, 2**62, 2**63 - 1, -(2**63))
OF_MANY = (": pooled", ": dask", ": statistics", ": layers")
"""Readings of all utterances that there are."""
AGAIN = "\ue000 a key again"


def originals(folder: Path) -> None:
    """Write the stores that are changed."""
    for name, settings in KINDS.items():
        Toy().write(folder / name, features=("states", "pitch"), **settings)


def mutate(path: Path, rng: Random) -> str:
    """Change one thing of a store, and return what."""
    if path.is_dir():
        file = rng.choice(files_of(path))
        place = file.relative_to(path).as_posix()
        change = _mutated_json if file.suffix == ".json" and rng.random() < 0.6 else _mutated_bytes
        said, content = change(file.read_bytes(), rng)
        file.write_bytes(content)
        return f"{place}: {said}"
    return rng.choice((_mutate_hdf5_bytes, _mutate_hdf5_block, _mutate_hdf5_parts, _mutate_hdf5_parts))(path, rng)


def _mutated_bytes(content: bytes, rng: Random) -> tuple[str, bytes]:
    """Return other bytes."""
    here, there = sorted(rng.randrange(len(content) + 1) for _ in range(2))
    ways = {
        "flip": lambda: _with(content, here, bytes([content[here % len(content)] ^ 1 << rng.randrange(8)])),
        "set": lambda: _with(content, here, bytes([rng.choice((0, 1, 0x7F, 0x80, 0xFF, 0x30, 0x7B))])),
        "eight": lambda: _with(content, here // 8 * 8, rng.choice(NUMBERS).to_bytes(8, "little", signed=True)),
        "cut": lambda: content[:here],
        "empty": lambda: b"",
        "extend": lambda: content + rng.randbytes(rng.choice((1, 8, 4096))),
        "remove": lambda: content[:here] + content[there:],
        "swap": lambda: content[there:] + content[here:there] + content[:here],
    }
    way = rng.choice(list(ways))
    return f"{way} at {here}, {there}", ways[way]()


def _with(content: bytes, place: int, new: bytes) -> bytes:
    place = min(place, max(0, len(content) - len(new)))
    return content[:place] + new + content[place + len(new) :]


def _mutated_json(content: bytes, rng: Random) -> tuple[str, bytes]:
    """Return another JSON document: a value, or a key of it is another, gone or there twice."""
    document = json.loads(content)
    places = list(_places(document))
    if not places:
        return _mutated_bytes(content, rng)
    holder, key = rng.choice(places)
    way = rng.choice(
        ("replace", "replace", "replace", "delete", "rename", "again")
        if isinstance(holder, dict)
        else ("replace", "delete")
    )
    value = rng.choice(VALUES)
    if way == "replace":
        holder[key] = value
    elif way == "delete":
        del holder[key]
    else:
        holder[AGAIN if way == "again" else f"{key}x"] = value if way == "again" else holder.pop(key)
    text = json.dumps(document, indent=1, ensure_ascii=False).replace(AGAIN, str(key))
    return f"{way} {key!r} {str(value)[:9] if way in ('replace', 'again') else ''}", text.encode()


def _places(document: Any) -> Iterator[tuple[Any, Any]]:
    for key, value in list(document.items() if isinstance(document, dict) else enumerate(document)):
        yield document, key
        if isinstance(value, (dict, list)):
            yield from _places(value)


def _mutate_hdf5_bytes(path: Path, rng: Random) -> str:
    """Change bytes of anything but frames and statistics."""
    content = path.read_bytes()
    small = [place for begin, end in _small_ranges(path) for place in range(begin, end)]
    for _ in range(100):
        said, changed = _mutated_bytes(content, rng)
        if said.startswith(("flip", "set", "eight")):
            here = rng.choice(small)
            new = {"f": bytes([content[here] ^ 1 << rng.randrange(8)]), "s": rng.randbytes(1)}.get(
                said[0], rng.choice(NUMBERS).to_bytes(8, "little", signed=True)
            )
            said, changed = f"{said.split()[0]} at {here}", _with(content, here, new)
        break
    path.write_bytes(changed)
    return said


def _small_ranges(path: Path) -> list[tuple[int, int]]:
    """Return the ranges of an HDF5 file that hold no shard."""
    with h5py.File(path) as file:
        chunks: list[tuple[int, int]] = []

        def look(_: str, found: Any) -> None:
            if isinstance(found, h5py.Dataset) and found.chunks:
                found.id.chunk_iter(lambda chunk: chunks.append((chunk.byte_offset, chunk.byte_offset + chunk.size)))

        file.visititems(look)
    edges = [0, *(edge for chunk in sorted(chunks) for edge in chunk), path.stat().st_size]
    return [(begin, end) for begin, end in zip(edges[::2], edges[1::2], strict=True) if begin < end]


def _mutate_hdf5_block(path: Path, rng: Random) -> str:
    """Change bytes of what HDF5 itself has written, and make its checksum fit."""
    content = bytearray(path.read_bytes())
    begin, end = rng.choice(metadata_blocks(bytes(content)))
    here = rng.randrange(begin, end - 4)
    new = rng.choice((rng.randbytes(1), b"\0", b"\xff", rng.choice(NUMBERS).to_bytes(8, "little", signed=True)))[
        : end - 4 - here
    ]
    content[here : here + len(new)] = new
    path.write_bytes(with_checksum(bytes(content), begin, end))
    return f"{bytes(content[begin : begin + 4])!r} at {begin}: byte {here - begin} becomes {new.hex()}"


def _mutate_hdf5_parts(path: Path, rng: Random) -> str:
    """Change a dataset or an attribute through h5py."""
    with h5py.File(path, "r+") as file:
        names: list[str] = []
        file.visit(names.append)
        name = rng.choice(names)
        found = file[name]
        ways = [_delete, _link, _other_kind]
        if isinstance(found, h5py.Dataset):
            ways += [_attribute] * 3 if found.attrs else []
            ways += [_other_layout] * 3 if found.chunks else [_other_values] * 9
        way = rng.choice(ways)
        return f"{name}: {way.__name__} {way(file, name, rng)}"


def _delete(file: h5py.File, name: str, rng: Random) -> str:
    del file[name]
    return ""


def _link(file: h5py.File, name: str, rng: Random) -> str:
    del file[name]
    target = rng.choice(
        (
            h5py.SoftLink("/table"),
            h5py.SoftLink(f"/{name}"),
            h5py.ExternalLink("x.h5", "/"),
            file["/"],
            file["table"] if "table" in file else file["/"],
        )
    )
    file[name] = target
    return repr(target)


def _other_kind(file: h5py.File, name: str, rng: Random) -> str:
    del file[name]
    if rng.random() < 0.3:
        file.create_group(name)
        return "group"
    dtype = rng.choice(
        (
            "S9",
            "V7",
            "O",
            "f2",
            "<u8",
            ">i8",
            "c16",
            [("a", "i4"), ("b", "f8", 3)],
            h5py.ref_dtype,
            h5py.vlen_dtype("i4"),
        )
    )
    shape = rng.choice(((), (0,), (9,), (3, 3), (2**40,)))
    try:
        file.create_dataset(name, shape, h5py.string_dtype() if dtype == "O" else dtype)
    except (TypeError, ValueError):
        file.create_dataset(name, shape, h5py.string_dtype() if dtype == "O" else dtype, chunks=True)
    return f"{dtype} {shape}"


def _attribute(file: h5py.File, name: str, rng: Random) -> str:
    key = rng.choice(list(file[name].attrs))
    value = rng.choice(
        (0, -1, 2, 2**31, 2**62, 1e308, float("nan"), "text", b"\xff", [1, 2], [], h5py.Empty("i4"), None)
    )
    del file[name].attrs[key]
    if value is not None:
        file[name].attrs[key] = value
    return f"{key} {value}"


def _other_layout(file: h5py.File, name: str, rng: Random) -> str:
    found = file[name]
    rows, width = found.shape
    shape = rng.choice(((rows, width), (rows * 3, width), (rows // 2, width), (rows, 1), (2**40, width), (0, width)))
    chunks = rng.choice((found.chunks, (1, width), (16, 1), (rows, 1), None))
    dtype, attrs = rng.choice((found.dtype, "f4", "i8", "u1", ">f4")), dict(found.attrs)
    filters = (
        rng.choice(({}, {}, {}, {"compression": "gzip"}, {"shuffle": True}, {"fletcher32": True})) if chunks else {}
    )
    del file[name]
    try:
        made = file.create_dataset(
            name,
            shape,
            dtype,
            chunks=chunks,
            maxshape=rng.choice((shape, (None, width))) if chunks else None,
            **filters,
        )
    except (ValueError, TypeError):
        made = file.create_dataset(name, shape, dtype, chunks=True)
    made.attrs.update(attrs)
    return f"{shape} {chunks} {dtype} {filters}"


def _other_values(file: h5py.File, name: str, rng: Random) -> str:
    values = file[name][()]
    del file[name]
    if isinstance(values, bytes):
        said, content = (_mutated_json if rng.random() < 0.7 else _mutated_bytes)(values, rng)
        file.create_dataset(name, data=np.array(content or b" "))
        return said
    if values.size and rng.random() < 0.7:
        place, number = rng.randrange(values.size), rng.choice(NUMBERS)
        values.reshape(-1)[place] = number % 2 if values.dtype.itemsize == 1 else number
        file.create_dataset(name, data=values)
        return f"{number} at {place}"
    changed = rng.choice(
        (
            values[:-1],
            values[::-1],
            np.append(values, values[:1]),
            values.astype("f4"),
            values.astype(">i8"),
            values[None],
            values[:0],
        )
    )
    file.create_dataset(name, data=changed)
    return f"{changed.dtype} {changed.shape}"


def judge(path: Path, original: dict[str, Any]) -> str:
    """Return what is wrong with what reading a changed store ends in; empty if nothing is."""
    try:
        got = probing.read_all(path)
        found = probing.damages(path)
    except Exception:
        return traceback.format_exc()
    if found:
        return ""
    other = [key for key, value in got.values.items() if original.get(key, value) != value]
    lost = [f"{key}: {error}" for key, error in got.refused.items() if key in original]
    if any(key.endswith(": complete") and not got.values.get(key) for key in original):
        lost = []  # a record that is gone is that of a shard that is still to be written
        other = [key for key in other if isinstance(original[key], bytes) and not key.endswith(OF_MANY)]
    return f"verify finds nothing, but {(other + lost)[:4]} are not what was written" if other or lost else ""


def main() -> None:
    """Print a line of JSON as each seed begins, and one with what is wrong with it."""
    folder, first, count = Path(sys.argv[1]), *map(int, sys.argv[2:4])
    faulthandler.enable()
    warnings.simplefilter("error")
    warnings.simplefilter("ignore", RuntimeWarning)  # of scales that are damaged, and no numbers any more
    originals(folder)
    zarr.PATIENCE = (0.0,)  # nobody else changes the store
    whole = {name: probing.read_all(folder / name).values for name in KINDS}
    written = {name: contents(folder / name) for name in KINDS}
    limit_memory(probing.MEMORY)
    for seed in range(first, first + count):
        rng = Random(seed)
        name = rng.choice(list(KINDS))
        path = folder / name
        said = f"{name}: {mutate(path, rng)}"
        changed = contents(path)
        print(json.dumps([seed, said, None]), flush=True)
        faulthandler.dump_traceback_later(SECONDS, exit=True)
        wrong = judge(path, whole[name])
        faulthandler.cancel_dump_traceback_later()
        if contents(path) != changed:
            wrong += "reading has changed the store"
        for file in changed:
            if changed[file] != written[name][file]:
                file.write_bytes(written[name][file])
        if wrong:
            print(json.dumps([seed, said, wrong]), flush=True)


def contents(path: Path) -> dict[Path, bytes]:
    """Return the bytes of every file of a store."""
    return {file: file.read_bytes() for file in ([path] if path.is_file() else files_of(path))}


def files_of(folder: Path) -> list[Path]:
    """Return the files of a store that is a folder, in order."""
    return sorted(Path(place, name) for place, _, names in os.walk(folder) for name in names)


if __name__ == "__main__":
    main()
