"""Writes the toy store in processes that kill themselves before a random operation on a file, until one is done.

python killed_writer.py STORE SEED
"""

from __future__ import annotations

import os
import random
import signal
import sys
from pathlib import Path

from toy import Toy

EVENTS = ("open", "os.rename", "os.mkdir", "os.remove", "os.truncate")


def write_and_die(path: Path, operations: int) -> None:
    left = operations

    def count() -> None:
        nonlocal left
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    def counted(function):
        def call(*arguments, **keywords):
            count()
            return function(*arguments, **keywords)

        return call

    toy = Toy()
    sys.addaudithook(lambda event, _: count() if event in EVENTS else None)
    os.fsync = counted(os.fsync)
    toy.write(path, features=("states", "pitch"))


def main() -> None:
    chance, kills = random.Random(int(sys.argv[2])), 0
    while True:
        process = os.fork()
        if process == 0:
            write_and_die(Path(sys.argv[1]), chance.randint(2, 60 * (kills + 1)))
            os._exit(0)
        _, status = os.waitpid(process, 0)
        if not os.WIFSIGNALED(status):
            break
        kills += 1
    print(kills)
    sys.exit(os.waitstatus_to_exitcode(status))


if __name__ == "__main__":
    main()
