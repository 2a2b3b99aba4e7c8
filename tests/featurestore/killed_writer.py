"""Writes the toy store in processes that kill themselves before a random operation on a file, until one is done.

Its arguments are the store and a seed.
"""

from __future__ import annotations

import os
import random
import sys
from pathlib import Path

from tests.featurestore.sudden_death import kill_after
from tests.featurestore.toy import Toy


def main() -> None:
    chance, kills = random.Random(int(sys.argv[2])), 0
    while True:
        process = os.fork()
        if process == 0:
            toy = Toy()
            kill_after(chance.randint(2, 40 * (kills + 1)))
            toy.write(Path(sys.argv[1]), features=("states", "pitch"))
            os._exit(0)
        _, status = os.waitpid(process, 0)
        if not os.WIFSIGNALED(status):
            break
        kills += 1
    print(kills)
    sys.exit(os.waitstatus_to_exitcode(status))
