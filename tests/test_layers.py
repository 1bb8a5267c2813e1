"""The scripts show the steps: `train/` and `inference/` hold 40 to 80 lines over the package and no tensors."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SCRIPTS = sorted([*ROOT.glob("train/*.py"), *ROOT.glob("inference/*.py")])
ALLOWED = {"amodal_diffusion", "accelerate", "numpy", *sys.stdlib_module_names}


def imported_packages(source: str) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names.update(alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            names.add((node.module or "").partition(".")[0])
    return names


def test_both_folders_hold_scripts() -> None:
    assert {path.parent.name for path in SCRIPTS} == {"train", "inference"}


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_script_shows_the_steps(path: Path) -> None:
    source = path.read_text(encoding="utf-8")
    assert 40 <= len(source.splitlines()) <= 80
    assert imported_packages(source) <= ALLOWED


def test_imported_packages_sees_every_form() -> None:
    source = "import torch.nn as nn\nfrom numpy import array\nimport sys"
    assert imported_packages(source) == {"torch", "numpy", "sys"}
