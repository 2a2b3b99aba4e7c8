"""The checksums of the metadata of HDF5: Bob Jenkins' lookup3, little-endian, as in the specification of the format."""

from __future__ import annotations

import struct
from functools import lru_cache

SIGNATURES = (
    b"\x89HDF\r\n\x1a\n",
    b"OHDR",
    b"OCHK",
    b"FRHP",
    b"BTHD",
    b"BTLF",
    b"BTIN",
    b"EAHD",
    b"EAIB",
    b"EASB",
    b"EADB",
    b"FAHD",
    b"FADB",
    b"FSHD",
    b"FSSE",
    b"SMTB",
    b"SMLI",
)
LONGEST = 1024
MASK = 0xFFFFFFFF


def _rotated(value: int, by: int) -> int:
    return (value << by | value >> 32 - by) & MASK


def _mix(a: int, b: int, c: int) -> tuple[int, int, int]:
    a = (a - c & MASK) ^ _rotated(c, 4)
    c = c + b & MASK
    b = (b - a & MASK) ^ _rotated(a, 6)
    a = a + c & MASK
    c = (c - b & MASK) ^ _rotated(b, 8)
    b = b + a & MASK
    a = (a - c & MASK) ^ _rotated(c, 16)
    c = c + b & MASK
    b = (b - a & MASK) ^ _rotated(a, 19)
    a = a + c & MASK
    c = (c - b & MASK) ^ _rotated(b, 4)
    b = b + a & MASK
    return a, b, c


def _final(a: int, b: int, c: int) -> int:
    for by in (14, 11, 25, 16, 4, 14, 24):
        c = (c ^ b) - _rotated(b, by) & MASK
        a, b, c = b, c, a
    return b


def checksum(content: bytes) -> int:
    """Return the lookup3 hash of ``content``.

    >>> hex(checksum(b"Four score and seven years ago"))
    '0x17770551'
    """
    a = b = c = 0xDEADBEEF + len(content) & MASK
    whole = max(0, len(content) - 1) // 12 * 12
    for place in range(0, whole, 12):
        x, y, z = struct.unpack_from("<III", content, place)
        a, b, c = _mix(a + x & MASK, b + y & MASK, c + z & MASK)
    if not content:
        return c
    x, y, z = struct.unpack("<III", content[whole:].ljust(12, b"\0"))
    return _final(a + x & MASK, b + y & MASK, c + z & MASK)


@lru_cache(maxsize=4)
def metadata_blocks(content: bytes) -> list[tuple[int, int]]:
    """Return where the blocks with a checksum begin and end, which is its last four bytes."""
    found = []
    for signature in SIGNATURES:
        begin = content.find(signature)
        while begin >= 0:
            ends = range(begin + 8, min(len(content), begin + LONGEST) + 1)
            end = next((end for end in ends if checksum_fits(content, begin, end)), None)
            found += [] if end is None else [(begin, end)]
            begin = content.find(signature, begin + 1)
    return sorted(found)


def checksum_fits(content: bytes, begin: int, end: int) -> bool:
    """Return whether a block that ends here has the right checksum."""
    return struct.unpack_from("<I", content, end - 4)[0] == checksum(content[begin : end - 4])


def with_checksum(content: bytes, begin: int, end: int) -> bytes:
    """Return ``content`` with the checksum that a block should have."""
    return content[: end - 4] + struct.pack("<I", checksum(content[begin : end - 4])) + content[end:]
