"""The recorded outputs of the reference are reproduced; the command that prints them fails without them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.parity import rows, shared_folder

SHARED = shared_folder()


@pytest.mark.skipif(SHARED is None, reason="AMODAL_SHARED is not set: the recorded reference outputs are there")
def test_every_recorded_value_is_reproduced() -> None:
    assert SHARED is not None
    table = list(rows(SHARED))
    assert len(table) == 14
    assert not [row for row in table if not row.holds]


def test_the_table_cannot_be_printed_without_the_recorded_values() -> None:
    environment = {key: value for key, value in os.environ.items() if key != "AMODAL_SHARED"}
    done = subprocess.run(
        [sys.executable, "-m", "tests.parity"],
        cwd=Path(__file__).parent.parent,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "AMODAL_SHARED" in done.stderr
