"""Check that an audio file is whole: decoders of Ogg, MP3 and FLAC ignore such damage silently.

Sources: RFC 3533 (Ogg), ISO/IEC 11172-3 and 13818-3 (the frames of MP3), RFC 9639 (FLAC).
"""

from __future__ import annotations

import hashlib
import struct
import zlib
from pathlib import Path
from typing import NamedTuple

import numpy as np

REVERSED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))
PAGE, FIRST, LAST = struct.Struct("<4sBBqIIIB"), 2, 4
"""The header of an Ogg page, and two of its flags: the first, and the last, page of a stream."""
RATES = {3: (44_100, 48_000, 32_000), 2: (22_050, 24_000, 16_000), 0: (11_025, 12_000, 8000)}
"""Sampling rates in Hz by the version bits of the header: 3 is MPEG 1, 2 is MPEG 2, 0 is MPEG 2.5."""
KBITS = {
    (True, 3): (32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
    (True, 2): (32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (True, 1): (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (False, 3): (32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    (False, 2): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    (False, 1): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
"""Bit rates by whether it is MPEG 1, and by the layer bits of the header: 3 is layer I, 2 is II, 1 is III."""
SURE = 3
"""So many frames in a row are no coincidence."""


class NotWholeError(ValueError):
    """A file that is cut or damaged; the message is what was found."""


class _Frame(NamedTuple):
    """A frame of MP3: its kind, which is the same in all frames of a file, and its size in bytes."""

    kind: tuple[int, int, int]
    size: int


def check_ogg(data: bytes) -> None:
    """Check the pages of an Ogg file: their checksums and numbers, and that each stream has its last one.

    Raises:
        NotWholeError: if a page is damaged, missing or cut.
    """
    position = 0
    numbers: dict[int, int] = {}
    while position < len(data):
        if data[position : position + 4] != b"OggS"[: len(data) - position]:
            if not numbers:
                break  # all streams have ended, what follows is something else
            raise NotWholeError(f"damaged: no page at byte {position}")
        size, flags, stream, number = _page(data, position)
        if flags & FIRST:
            numbers[stream] = number
        elif numbers.get(stream) != number:
            raise NotWholeError(f"damaged: pages are missing before byte {position}")
        numbers[stream] = number + 1
        if flags & LAST:
            del numbers[stream]
        position += size
    if numbers:
        raise NotWholeError("truncated: its last page does not end the stream")


def _page(data: bytes, position: int) -> tuple[int, int, int, int]:
    """Return the size, the flags, the stream and the number of a page whose checksum is right."""
    body = position + PAGE.size
    if body > len(data):
        raise NotWholeError(f"truncated: its last page, at byte {position}, is cut")
    _, _, flags, _, stream, number, checksum, segments = PAGE.unpack_from(data, position)
    end = body + segments + sum(data[body : body + segments])
    if body + segments > len(data) or end > len(data):
        raise NotWholeError(f"truncated: its last page, at byte {position}, is cut")
    if _ogg_crc(data[position : position + 22] + bytes(4) + data[position + 26 : end]) != checksum:
        raise NotWholeError(f"damaged: the page at byte {position} has the wrong checksum")
    return end - position, flags, stream, number


def _ogg_crc(page: bytes) -> int:
    """Return the CRC-32 of Ogg: that of zlib with the bits in reverse order and without inversions.

    >>> hex(_ogg_crc(b"123456789"))
    '0x89a1897f'
    """
    crc = zlib.crc32(page.translate(REVERSED), 0xFFFFFFFF) ^ 0xFFFFFFFF
    return int(f"{crc:032b}"[::-1], 2)


def check_mp3(data: bytes) -> str:
    """Check the frames of an MP3 file, and their number if the file states it.

    Returns:
        Why its length cannot be checked, or what is odd about it; empty if nothing is.

    Raises:
        NotWholeError: if bytes between frames are damaged, or the last frame is cut, or frames are missing.
    """
    data = _without_footer(data)
    start = _first_frame(data)
    first = None if start is None else _frame(data, start)
    if start is None or first is None:
        return "its length cannot be checked: no chain of MP3 frames is found"
    found, problem = _count_frames(data, start, first.kind)
    stated = _stated_frames(data[start : start + first.size])
    if stated is None:
        if problem:
            raise NotWholeError(problem)
        return "its length cannot be checked: it is MP3 without a count of its frames"
    found -= 1  # the frame that holds the count does not count
    if found < stated:
        raise NotWholeError(problem or f"truncated: its header counts {stated} frames, it holds {found}")
    return "" if found == stated else f"its header counts {stated} frames, it holds {found}"


def _count_frames(data: bytes, position: int, kind: tuple[int, int, int]) -> tuple[int, str]:
    """Return how many whole frames there are up to the end, or to a problem, and that problem."""
    found = 0
    while position < len(data):
        frame, tag = _frame(data, position), _tag_size(data, position)
        if frame and frame.kind == kind:
            if position + frame.size > len(data):
                return found, f"truncated: its last frame, at byte {position}, is cut"
            found, position = found + 1, position + frame.size
        elif tag:
            position += tag
        elif not any(data[position:]):  # padding
            break
        else:
            cut = len(data) - position < 4 and data[position] == 0xFF
            return found, f"{'truncated' if cut else 'damaged'}: no frame at byte {position}"
    return found, ""


def _first_frame(data: bytes) -> int | None:
    """Return where the first frame is, after the tags; None if there are no frames whose size is known."""
    position = 0
    while tag := _tag_size(data, position):
        position += tag
    while (position := data.find(b"\xff", position)) >= 0:
        if _begins_chain(data, position):
            return position
        position += 1
    return None


def _begins_chain(data: bytes, position: int) -> bool:
    kinds: set[tuple[int, int, int]] = set()
    for _ in range(SURE):
        frame = _frame(data, position)
        if frame is None:
            return bool(kinds) and (position >= len(data) or bool(_tag_size(data, position)))
        kinds.add(frame.kind)
        position += frame.size
    return len(kinds) == 1


def _frame(data: bytes, position: int) -> _Frame | None:
    """Return the frame whose header is at a position; None if there is none, or one of free format."""
    if len(data) - position < 4 or data[position] != 0xFF or data[position + 1] < 0xE0:
        return None
    second, third = data[position + 1 : position + 3]
    version, layer, bits, rate, padding = second >> 3 & 3, second >> 1 & 3, third >> 4, third >> 2 & 3, third >> 1 & 1
    if version == 1 or layer == 0 or bits in (0, 15) or rate == 3:
        return None
    kbits, hertz = KBITS[version == 3, layer][bits - 1], RATES[version][rate]
    if layer == 3:
        size = (12_000 * kbits // hertz + padding) * 4
    else:
        size = (72_000 if version != 3 and layer == 1 else 144_000) * kbits // hertz + padding
    return _Frame((version, layer, rate), size)


def _tag_size(data: bytes, position: int) -> int:
    """Return the bytes of the tag at a position; 0 if there is none."""
    head = data[position : position + 32]
    if head.startswith(b"ID3") and len(head) > 9:
        size = sum((byte & 0x7F) << shift for byte, shift in zip(head[6:10], (21, 14, 7, 0), strict=True))
        return 10 + size + (10 if head[5] & 0x10 else 0)
    if head.startswith(b"TAG"):
        return 128
    if head.startswith(b"APETAGEX") and len(head) == 32:
        begins = head[23] & 0x20  # a header: the size is of what follows; otherwise it is a footer
        return 32 + (int.from_bytes(head[12:16], "little") if begins else 0)
    if head.startswith(b"LYRICSBEGIN"):
        end = data.find(b"LYRICS200", position)
        return end + 9 - position if end >= 0 else 0
    return 0


def _without_footer(data: bytes) -> bytes:
    """Return a file without its last tag if that has a footer but no header, as in APE 1."""
    end = len(data) - (128 if data[-128:-125] == b"TAG" else 0)
    footer = data[max(0, end - 32) : end]
    if footer.startswith(b"APETAGEX") and not footer[23] & 0x80:
        end -= int.from_bytes(footer[12:16], "little")
    return data[: max(0, end)]


def _stated_frames(frame: bytes) -> int | None:
    """Return the number of frames that the first frame states, without itself; None if it states none."""
    for word in (b"Xing", b"Info"):
        place = frame.find(word, 4, 48)
        if place >= 0 and frame[place + 7] & 1:
            return int.from_bytes(frame[place + 8 : place + 12], "big")
    if frame[36:40] == b"VBRI":
        return int.from_bytes(frame[50:54], "big") - 1  # it may count itself
    return None


def flac_md5(path: Path) -> bytes:
    """Return the MD5 of its samples that a FLAC file states; zeros if it states none."""
    with path.open("rb") as file:
        head = file.read(10)
        file.seek(_tag_size(head, 0) + 8)
        return file.read(34)[18:]


def pcm_md5(samples: np.ndarray, bits: int) -> bytes:
    """Return the MD5 of samples, computed as FLAC does.

    Args:
        samples: (frames, channels) as int32, in its upper bits.
        bits: of a sample: 8, 16 or 24.
    """
    lower = (samples >> (32 - bits)).astype("<i4").view(np.uint8).reshape(-1, 4)
    return hashlib.md5(np.ascontiguousarray(lower[:, : bits // 8]).tobytes(), usedforsecurity=False).digest()
