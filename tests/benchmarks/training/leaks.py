"""How many planted copies of recordings the audit finds, what it takes for a copy that is none, and how long it takes.

python tests/benchmarks/training/leaks.py --store stores/emotale.zarr --audio data/emotale --copies 150
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.stats import binomtest

sys.path.insert(0, str(Path(__file__).parents[3]))

import featurestore
from extract.audio import read_wave
from featurestore.access.store import Store
from tests.train.planted import COPIES, every_pair, write_store
from train.audit.findings import Audited
from train.audit.near_duplicates import LEAST_SECONDS, find_copies
from train.audit.same_audio import same_pairs

SAYS_THE_SAME = ("speaker", "sentence")
"""Columns in which recordings of one sentence by one voice agree."""


def plant(table: pd.DataFrame, audio: Path, count: int, path: Path) -> Store:
    """Write and return a store with all recordings, and all kinds of copies of some of them."""
    chosen = set(np.random.default_rng(0).choice(table.index.to_numpy(str), count, replace=False))
    columns = [column for column in SAYS_THE_SAME if column in table]
    waves, rows = {}, {}
    for name, file in table["path"].items():
        waves[name], rows[name] = read_wave(audio / file), table.loc[name, columns]
        for kind, copy in COPIES.items() if name in chosen else ():
            copied = copy(waves[name])
            if len(copied) >= LEAST_SECONDS * 16_000:
                waves[f"{name} | {kind}"], rows[f"{name} | {kind}"] = copied, rows[name]
    labels = pd.DataFrame(list(rows.values()), index=pd.Index(list(waves), name="name")).astype(str)
    return write_store(path, waves, labels)


def measure(store: Store) -> dict[str, object]:
    """Return the share of copies of each kind that are found, and the pairs of different recordings that are."""
    names = list(store.index.names)
    audited = Audited(store, store.utterances, every_pair(names), [])
    begin, cpu = time.monotonic(), time.process_time()
    pairs = {
        (names[pair.first], names[pair.second]): pair.note for pair in (*find_copies(audited), *same_pairs(audited))
    }
    seconds = {"wall": time.monotonic() - begin, "processor": time.process_time() - cpu}
    found = {}
    for kind in COPIES:
        ends = [(name.split(" | ")[0], name) for name in names if name.endswith(f" | {kind}")]
        caught = sum(end in pairs or end[::-1] in pairs for end in ends)
        found[kind] = {**share(caught, len(ends)), "missed": [end[1] for end in ends if end not in pairs][:10]}
    originals = [name for name in names if " | " not in name]
    wrong = {pair: note for pair, note in pairs.items() if pair[0].split(" | ")[0] != pair[1].split(" | ")[0]}
    alone = [f"{a}, {b}: {note}" for (a, b), note in wrong.items() if " | " not in a + b]
    table = store.utterances.loc[originals]
    sizes = table.groupby([column for column in SAYS_THE_SAME if column in table]).size()
    return {
        "utterances": len(names),
        "seconds": seconds,
        "found": found,
        "pairs of different recordings": share(len(alone), len(originals) * (len(originals) - 1) // 2),
        "of them one voice and sentence": int((sizes * (sizes - 1) // 2).sum()),
        "taken for copies": alone,
        "the same with a copy of one": len(wrong) - len(alone),
    }


def share(count: int, of: int) -> dict[str, float]:
    """Return a share with its 95 % Wilson interval."""
    interval = binomtest(count, of).proportion_ci(method="wilson")
    return {"count": count, "of": of, "share": count / of, "low": interval.low, "high": interval.high}


def main() -> None:
    """Print what is found as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--store", type=Path, required=True, help="whose recordings are taken")
    parser.add_argument("--audio", type=Path, required=True, help="the folder of its audio")
    parser.add_argument("--copies", type=int, default=100, help="recordings that are copied")
    settings = parser.parse_args()
    table = featurestore.open(settings.store).utterances
    with tempfile.TemporaryDirectory() as folder:
        print(
            json.dumps(measure(plant(table, settings.audio, settings.copies, Path(folder) / "planted.zarr")), indent=1)
        )


if __name__ == "__main__":
    main()
