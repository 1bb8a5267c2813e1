"""The guide's way from clips to a completed one, as a user goes it, with the wheel and one script of the checkout."""

from __future__ import annotations

import json
import shlex
import sys
import sysconfig
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.documents import ROOT, block_with, read
from tests.training.launching import run

MODULES = {
    "train/precompute.py": "amodal_diffusion.training.precompute",
    "train/train_amodal_segmentation.py": "amodal_diffusion.training",
    "train/train_content_completion.py": "amodal_diffusion.training",
}
BY_SCRIPT = "train/train_content_completion.py"
"""Runs as the guide has it; the other scripts run as the modules that the guide names in their place."""
PROGRAM = "amodal-diffusion"
GUIDE = "docs/walkthrough.md"


def install_wheel(folder: Path) -> Path:
    """Install the wheel beside a folder, with the other packages of this environment but no checkout; its Python."""
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
    return python


def the_commands() -> list[str]:
    commands = block_with(f"{PROGRAM} scenes", f"{PROGRAM} prepare", "accelerate launch", f"{PROGRAM} complete")
    configs = f"{PROGRAM} configs configs"
    assert all(name in read(GUIDE) for name in [*MODULES, *MODULES.values(), configs])
    return [configs, *commands]


def as_run_by(python: Path, words: list[str]) -> list[str]:
    """A command in the environment of an interpreter, modules in place of scripts but one."""
    if words[0] == "accelerate":
        modules = {script: ["-m", module] for script, module in MODULES.items() if script != BY_SCRIPT}
        arguments = [part for word in words[2:] for part in modules.get(word, [word])]
        return [str(python), "-m", "accelerate.commands.launch", *arguments]
    assert words[0] == PROGRAM
    return [str(python.parent / PROGRAM), *words[1:]]


def lines_of(output: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (output / "log.jsonl").read_text().splitlines()]


def pictures(folder: Path) -> np.ndarray:
    return np.stack([np.asarray(Image.open(file)) for file in sorted(folder.iterdir())])


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_from_clips_to_a_completed_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PYTHONPATH", raising=False)  # the wheel is what is imported
    folder = tmp_path / "here"
    folder.mkdir()
    (folder / "train").symlink_to(ROOT / "train")
    python = install_wheel(folder)
    commands = [as_run_by(python, shlex.split(command)) for command in the_commands()]
    printed = {" ".join(command): run(*command, folder=folder) for command in commands}
    (checked,) = (text for command, text in printed.items() if " validate " in command)
    assert "no problems found" in checked
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
