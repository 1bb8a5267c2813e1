"""A part of the campaign of faults; docs/reliability.md has the whole one."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
CASES = 84  # every command with every kind of fault, twice


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.skipif(sys.platform != "linux", reason="the faults are made with features of Linux")
def test_seeded_faults_lose_nothing(tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / "benchmarks/faults.py"), "--cases", str(CASES), "--seed", "1"]
    done = subprocess.run(
        [*command, "--work", str(tmp_path)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.splitlines()[-1:] == [f"{CASES} faults, 0 losses"], done.stdout + done.stderr
    assert done.returncode == 0
    rows = re.findall(r"^\| ([^|]+) \| (\d+) \|", done.stdout, re.MULTILINE)
    assert all(int(count) == CASES // 7 for _, count in rows[:7])
