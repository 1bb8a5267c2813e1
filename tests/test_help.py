"""Every way to start the program answers `--help`: the command, its subcommands and the scripts."""

from __future__ import annotations

import pkgutil
import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

from amodal_diffusion import commands
from amodal_diffusion.cli import main

ROOT = Path(__file__).resolve().parents[1]
SUBCOMMANDS = sorted(module.name for module in pkgutil.iter_modules(commands.__path__) if module.name[0] != "_")
SCRIPTS = sorted([*ROOT.glob("train/*.py"), *ROOT.glob("inference/*.py")])


def test_the_promised_subcommands_exist() -> None:
    promised = "app batch complete configs convert demo download evaluate prepare scenes score segment validate"
    assert set(SUBCOMMANDS) >= set(promised.split())


@pytest.mark.parametrize("name", SUBCOMMANDS)
def test_subcommand_help(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main([name, "--help"])
    assert stop.value.code == 0
    text = capsys.readouterr().out
    usage = text.partition("\n\n")[0].split()
    assert usage[:2] == ["usage:", "amodal-diffusion"]
    assert name in usage
    assert not re.search(r"<class|<function|default: null|NoneType", text)


def test_help_lists_every_subcommand_without_slow_imports() -> None:
    code = (
        "import sys; from amodal_diffusion.cli import main\n"
        "try: main(['--help'])\n"
        "except SystemExit: print('imported:', {'numpy', 'torch', 'scipy', 'av'} & set(sys.modules) or [])"
    )
    result = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert "imported: []" in result.stdout
    assert all(name in result.stdout for name in SUBCOMMANDS)


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_script_help(path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", [str(path), "--help"])
    with pytest.raises(SystemExit) as stop:  # in this process: five of their own would import torch five times
        runpy.run_path(str(path), run_name="__main__")
    assert stop.value.code == 0
    assert capsys.readouterr().out.startswith("usage: ")
