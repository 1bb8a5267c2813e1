"""The recorded outputs of the reference are reproduced; the command that prints them fails without them."""

from __future__ import annotations

import pytest

from tests.parity import main, rows, shared_folder

SHARED = shared_folder()


@pytest.mark.skipif(SHARED is None, reason="AMODAL_SHARED is not set: the recorded reference outputs are there")
def test_every_recorded_value_is_reproduced() -> None:
    assert SHARED is not None
    table = list(rows(SHARED))
    assert len(table) == 14
    assert not [row for row in table if not row.holds]


def test_the_table_cannot_be_printed_without_the_recorded_values(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("AMODAL_SHARED", raising=False)
    assert main() == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("error: AMODAL_SHARED: expected a folder with golden/, got None")
