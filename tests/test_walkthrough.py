"""The README's way from clips to a completed one, as a user goes it: in a checkout, and with the wheel alone."""

from __future__ import annotations

import json
import shlex
import sys
import sysconfig
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.documents import ROOT, commands_in, section
from tests.training.launching import run

MODULES = {
    "train/precompute.py": "amodal_diffusion.training.precompute",
    "train/train_amodal_segmentation.py": "amodal_diffusion.training",
    "train/train_content_completion.py": "amodal_diffusion.training",
}
PROGRAM = "amodal-diffusion"


def in_checkout(folder: Path) -> list[list[str]]:
    """The commands as they stand, in a folder that has of a checkout what they name."""
    for name in ("configs", "train"):
        (folder / name).symlink_to(ROOT / name)
    return [as_run_by(Path(sys.executable), shlex.split(command)) for command in the_commands()]


def with_the_wheel(folder: Path) -> list[list[str]]:
    """The commands for an installed package, which sees the other packages of this environment but no checkout."""
    wheels, environment = folder.with_name("wheels"), folder.with_name("environment")
    run(sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(wheels))
    run(sys.executable, "-m", "venv", "--without-pip", str(environment))
    python = environment / "bin/python"
    (wheel,) = wheels.glob("*.whl")
    run(sys.executable, "-m", "pip", "--python", str(python), "install", "--no-deps", "--no-index", str(wheel))
    packages = {"base": str(environment), "platbase": str(environment)}
    other = Path(sysconfig.get_path("purelib", vars=packages)) / "others.pth"
    other.write_text(sysconfig.get_path("purelib") + "\n")
    found = run(str(python), "-c", "import amodal_diffusion; print(amodal_diffusion.__file__)", folder=folder)
    assert Path(found.strip()).is_relative_to(environment)
    commands = [f"{PROGRAM} configs configs", *the_commands()]
    assert all(name in (ROOT / "README.md").read_text() for name in [*MODULES.values(), commands[0]])
    return [as_run_by(python, without_scripts(shlex.split(command))) for command in commands]


def the_commands() -> list[str]:
    return commands_in(section((ROOT / "README.md").read_text(), "Own data"))


def as_run_by(python: Path, words: list[str]) -> list[str]:
    """A command in the environment of an interpreter."""
    if words[0] == "accelerate":
        return [str(python), "-m", "accelerate.commands.launch", *words[2:]]
    assert words[0] == PROGRAM
    return [str(python.parent / PROGRAM), *words[1:]]


def without_scripts(words: list[str]) -> list[str]:
    """A command with a module in place of its script."""
    return [part for word in words for part in (["-m", MODULES[word]] if word in MODULES else [word])]


def lines_of(output: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (output / "log.jsonl").read_text().splitlines()]


def pictures(folder: Path) -> np.ndarray:
    return np.stack([np.asarray(Image.open(file)) for file in sorted(folder.iterdir())])


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("commands_of", [in_checkout, with_the_wheel])
def test_from_clips_to_a_completed_one(commands_of: Callable[[Path], list[list[str]]], tmp_path: Path) -> None:
    folder = tmp_path / "here"
    folder.mkdir()
    printed = {" ".join(command): run(*command, folder=folder) for command in commands_of(folder)}
    (checked,) = (text for command, text in printed.items() if " validate " in command)
    assert "nothing is wrong" in checked
    (encoded,) = (text for command, text in printed.items() if "precompute" in command)
    assert encoded.count("clips of this process") == 2
    for name in ("debug", "debug_content"):
        start, *steps = lines_of(folder / "runs" / name)
        assert (start["event"], start["processes"]) == ("start", 2)
        assert [line["step"] for line in steps] == [1, 2, 3, 4]
        assert ("occlusion_mean" in steps[-1]) == (name == "debug_content")

    scene, result = folder / "out/scenes/train-000000", folder / "out/completed/objects/2"
    frames, modal = pictures(scene / "images"), pictures(scene / "modal/2") > 0
    amodal, rgba = pictures(result / "amodal_masks") > 0, pictures(result / "completed")
    assert modal.any()
    assert (amodal | ~modal).all()
    np.testing.assert_array_equal(rgba[modal][:, :3], frames[modal])
    np.testing.assert_array_equal(rgba[..., 3], amodal * np.uint8(255))
    models = json.loads((folder / "out/completed/summary.json").read_text())
    assert "runs/debug/model" in json.dumps(models)
    assert "runs/debug_content/model" in json.dumps(models)
