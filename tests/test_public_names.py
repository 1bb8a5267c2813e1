"""The package's top level: every public name resolves, and nothing heavy is imported before one is used."""

from __future__ import annotations

import subprocess
import sys

import pytest

import amodal_diffusion


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
