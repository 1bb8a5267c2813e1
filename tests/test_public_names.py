"""The package's top level: every public name resolves, and nothing heavy is imported before one is used."""

from __future__ import annotations

import ast
import importlib
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

import amodal_diffusion

REPOSITORY = Path(__file__).parents[1]


@pytest.mark.parametrize("name", amodal_diffusion.__all__)
def test_public_name_resolves(name: str) -> None:
    assert getattr(amodal_diffusion, name).__name__ == name
    assert name in dir(amodal_diffusion)


def test_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'AmodalCompletr'"):
        _ = amodal_diffusion.AmodalCompletr


def test_importing_the_package_does_not_import_torch() -> None:
    code = "import sys, amodal_diffusion; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("folder", ["benchmarks", "docs", "inference", "recipes", "train"])
def test_scripts_import_names_that_exist(folder: str) -> None:
    """Most scripts are run by slow tests alone, and a name that has moved is found here."""
    missing = []
    for script in sorted((REPOSITORY / folder).rglob("*.py")):
        for node in ast.walk(ast.parse(script.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("amodal_diffusion"):
                module = importlib.import_module(str(node.module))
                missing += [f"{script.name}: {name.name}" for name in node.names if not _has(module, name.name)]
    assert missing == []


def _has(module: ModuleType, name: str) -> bool:
    try:
        return hasattr(module, name) or bool(importlib.import_module(f"{module.__name__}.{name}"))
    except ModuleNotFoundError:
        return False
