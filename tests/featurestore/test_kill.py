"""Killed at any instant and started again, a writer ends with the same bytes."""

import pytest

from tests.processes import Command

killed_writer = Command("featurestore", "tests.featurestore.killed_writer")
KILLS = 50
"""At least so many with each backend, over as many stores as that takes."""


def test_killed_at_random_instants_it_resumes_to_the_same_bytes(toy, tmp_path, suffix, tree):
    whole = tree(toy.write(tmp_path / f"whole{suffix}", features=("states", "pitch")))
    kills, seed = 0, 0
    while kills < KILLS:
        path = tmp_path / f"{seed}" / f"toy{suffix}"
        path.parent.mkdir()
        result = killed_writer(path, seed)
        assert result.returncode == 0, result.stderr
        kills, seed = kills + int(result.stdout), seed + 1
        assert tree(path) == whole
        assert sorted(file.name for file in path.parent.iterdir()) == [f".toy{suffix}.lock", f"toy{suffix}"]


@pytest.mark.parametrize("place", ["data/c/0/1/.0.77.tmp", "shards/.1.json.77.tmp"])
def test_what_a_killed_writer_left_is_cleared(toy, tmp_path, tree, place):
    path = toy.write(tmp_path / "toy.zarr", shards=[0])
    file = path / "features/states" / place
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(b"half")
    toy.write(path)
    assert tree(path) == tree(toy.write(tmp_path / "whole.zarr"))
