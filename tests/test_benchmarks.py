"""Benchmarks that take seconds still run, and still find what the README says of them."""

import subprocess
import sys
from pathlib import Path

BENCHMARKS = Path(__file__).parent / "benchmarks"


def test_pitch_at_the_times_of_an_encoder_is_that_of_glides_whose_f0_is_known():
    command = [sys.executable, str(BENCHMARKS / "extraction" / "glides.py"), "--every", "400"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    rows = {line[:19].strip(): line[19:].split() for line in done.stdout.splitlines()[3:]}
    assert float(rows["ac"][0]) < 0.002 < 0.02 < float(rows["ac, f0[::2]"][0])
    assert {figures[2] for figures in rows.values()} == {"100.00%"}
