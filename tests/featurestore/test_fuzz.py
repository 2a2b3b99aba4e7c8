"""Whatever is changed in a store: reading ends in an answer or in an error of ours, and verify misses nothing."""

import json

import pytest

from tests.featurestore.lookup3 import checksum, metadata_blocks
from tests.processes import Command

SEEDS, WORKERS = range(600), 2


fuzzing = Command("featurestore", "tests.featurestore.fuzzing")


def start(folder, seeds):
    folder.mkdir()
    return fuzzing.start(folder, seeds.start, len(seeds), seconds=900)


def test_a_changed_store_is_read_as_it_was_or_refused(tmp_path):
    """Six hundred changes; python -m tests.featurestore.fuzzing FOLDER SEED 1 makes one of them again."""
    each = len(SEEDS) // WORKERS
    workers = [start(tmp_path / str(w), SEEDS[w * each : (w + 1) * each]) for w in range(WORKERS)]
    for done in [worker.wait() for worker in workers]:  # all of them have ended before one is judged
        lines = [json.loads(line) for line in done.stdout.splitlines()]
        assert [line for line in lines if line[2]] == []
        assert done.returncode == 0, f"it ended in {lines[-1:]}: {done.stderr}"
        assert len(lines) == each


@pytest.mark.parametrize(("content", "expected"), [(b"", 0xDEADBEEF), (b"Four score and seven years ago", 0x17770551)])
def test_checksums_are_those_of_hdf5(content, expected):
    assert checksum(content) == expected


def test_what_hdf5_has_written_is_found(toy, tmp_path):
    content = toy.write(tmp_path / "toy.h5").read_bytes()
    blocks = metadata_blocks(content)
    assert blocks[0] == (0, 48)
    assert {content[begin : begin + 4] for begin, _ in blocks} >= {b"OHDR", b"EAHD", b"EAIB"}
