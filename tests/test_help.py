"""Every way to start the program answers `--help`: the command, its subcommands and the scripts."""

from __future__ import annotations

import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

from amodal_diffusion import commands
from amodal_diffusion.cli import main

ROOT = Path(__file__).resolve().parents[1]
SUBCOMMANDS = sorted(
    module.name for module in pkgutil.iter_modules(commands.__path__) if module.name[0] != "_"
)
SCRIPTS = sorted([*ROOT.glob("train/*.py"), *ROOT.glob("inference/*.py")])


def test_the_promised_subcommands_exist() -> None:
    assert set(SUBCOMMANDS) >= {"complete", "convert", "demo", "evaluate", "scenes"}


@pytest.mark.parametrize("name", SUBCOMMANDS)
def test_subcommand_help(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main([name, "--help"])
    assert stop.value.code == 0
    assert f"amodal-diffusion {name}" in capsys.readouterr().out


def test_help_lists_every_subcommand_without_importing_torch() -> None:
    code = (
        "import sys; from amodal_diffusion.cli import main\n"
        "try: main(['--help'])\n"
        "except SystemExit: print('torch imported:', 'torch' in sys.modules)"
    )
    result = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert "torch imported: False" in result.stdout
    assert all(name in result.stdout for name in SUBCOMMANDS)


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_script_help(path: Path) -> None:
    result = subprocess.run(
        [sys.executable, path, "--help"], check=False, capture_output=True, text=True, timeout=120
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.strip()
