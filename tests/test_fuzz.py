"""A part of the mutated files of `benchmarks/fuzz.py`, and that it tells a bad reader from a good one."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FILES, SEED = 105, 3

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="children are limited and watched as Linux can")


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_mutated_files_are_read_or_refused() -> None:
    command = [sys.executable, str(ROOT / "benchmarks/fuzz.py"), "--files", str(FILES), "--seed", str(SEED)]
    done = subprocess.run(
        command, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False
    )
    assert done.stdout.splitlines()[-1:] == [f"{FILES} files, 0 failures, seed {SEED}"], done.stdout + done.stderr
    rows = re.findall(r"^\| (\w+) \| (\d+) \| (\d+) \| (\d+) \|", done.stdout, re.MULTILINE)
    assert [int(row[1]) for row in rows] == [15] * 7 + [FILES]
    assert all(int(row[3]) > 0 for row in rows)  # the damage is met


def ends(tmp_path: Path, read: Callable[[Path], object], monkeypatch: pytest.MonkeyPatch) -> str:
    """How a reader ends in a child."""
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    import fuzz  # type: ignore[import-not-found]  # a script
    from reliability.readers import Reader  # type: ignore[import-not-found]

    case = tmp_path / "case"
    case.write_bytes(b"")
    return str(fuzz.read_in_child(Reader("own", lambda _: None, read), case, seconds=1).kind)


def _refuse(_: Path, *, text: str = "one line") -> None:
    from amodal_diffusion.basics import InputError

    raise InputError(text)


def _hang(_: Path) -> None:
    while True:
        pass


@pytest.mark.slow
@pytest.mark.parametrize(
    ("read", "kind"),
    [
        (lambda _: None, "read"),
        (_refuse, "refused"),
        (lambda path: _refuse(path, text="two\nlines"), "many lines"),
        (lambda _: {}["missing"], "traceback"),
        (lambda _: sys.exit(0), "traceback"),
        (lambda _: os.abort(), "signal"),
        (lambda _: os._exit(0), "signal"),
        (lambda _: bytearray(6 * 2**30), "memory"),
        (_hang, "hang"),
    ],
)
def test_a_bad_reader_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, read: Callable[[Path], object], kind: str
) -> None:
    assert ends(tmp_path, read, monkeypatch) == kind
