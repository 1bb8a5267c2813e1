"""`train` starts a run of any method by its settings file, in one process or several."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from amodal_diffusion.cli import main
from amodal_diffusion.training import launch
from amodal_diffusion.training.programs import program_of
from tests.documents import ROOT

DEBUG = ROOT / "configs/debug_cpu.yaml"
METHODS = {"c2f_seg": "c2f-seg", "s_amodal": "s-amodal", "sameo": "sameo"}
SHORT = ("steps=2", "checkpoint_every=1", "validation.every=0", "log_every=1")


def lines_of(output: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in (output / "log.jsonl").read_text().splitlines()]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["nowhere.yaml"],
            "config: nowhere.yaml: no such file; `amodal-diffusion configs DIR` writes the shipped ones",
        ),
        ([str(DEBUG), "--set", "steps"], "--set: expected KEY=VALUE, such as steps=2000, got steps"),
    ],
)
def test_mistakes_are_one_line(arguments: list[str], message: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["train", *arguments]) == 2
    assert capfd.readouterr().err == f"error: {message}\n"


def test_a_wrong_setting_starts_no_process(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(launch.subprocess, "Popen", None)
    for setting, message in (
        ("stepz=3", "--set: stepz: unknown; did you mean steps?"),
        ("config=x.yaml", f"--set: expected a setting, got config; give the file in place of {DEBUG}"),
    ):
        assert main(["train", str(DEBUG), "--set", setting]) == 2
        assert capfd.readouterr().err == f"error: {message}\n"


def test_the_method_follows_from_the_file() -> None:
    files = [*ROOT.glob("configs/*.yaml"), *ROOT.glob("recipes/*/*.yaml")]
    training = [file for file in files if "autoencoder" not in file.stem or "c2f" in str(file)]
    assert len(training) > 20
    for file in training:
        parts = (file.parent.name, file.stem)
        wanted = next((name for key, name in METHODS.items() if any(key in part for part in parts)), "diffusion")
        assert program_of(file) == wanted, file


def test_processes_and_settings_reach_the_launch(monkeypatch: pytest.MonkeyPatch) -> None:
    commands: list[list[str]] = []

    class Process:
        def __init__(self, command: list[str], **_: object) -> None:
            if "accelerate.commands.launch" in command:
                text = Path(command[command.index("--config_file") + 1]).read_text()
                assert "num_processes: 3" in text
                assert "use_cpu: true" in text
            commands.append(command)

        def wait(self) -> int:
            return 7

    monkeypatch.setattr(launch.subprocess, "Popen", Process)
    monkeypatch.setattr(launch, "_count", lambda processes: (processes or 1, 0))
    assert launch.launch(DEBUG, ["steps=5"], processes=3) == 7
    assert launch.launch(DEBUG, [], dry_run=True) == 7
    assert commands[0][-3:] == ["--config", str(DEBUG), "--steps=5"]
    assert commands[1][1:] == ["-m", "amodal_diffusion.training", "--config", str(DEBUG), "--dry_run=true"]


@pytest.mark.slow
@pytest.mark.parametrize("processes", [1, 2])
def test_it_trains_and_says_what_to_do_with_the_model(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], processes: int
) -> None:
    output = tmp_path / "run"
    arguments = ["train", str(DEBUG), "--processes", str(processes), "--set", f"output={output}", *SHORT]
    assert main(arguments) == 0
    assert lines_of(output)[0]["processes"] == processes
    assert lines_of(output)[1]["minutes_left"] > 0  # type: ignore[operator]
    assert (output / "model/unet").is_dir() or (output / "model/amodal_segmentation").is_dir()
    error = capfd.readouterr().err
    assert (
        error.count(f"model in {output}/model; try it with: amodal-diffusion complete CLIP --masks MASKS --model") == 1
    )


@pytest.mark.slow
def test_another_method(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "run"
    arguments = ["train", str(ROOT / "configs/debug_sameo.yaml"), "--set", f"loop.output={output}", "loop.steps=1"]
    assert main(arguments) == 0
    assert f"model in {output}/model" in capfd.readouterr().err


@pytest.mark.slow
def test_an_interruption_leaves_a_checkpoint(tmp_path: Path) -> None:
    output = tmp_path / "run"
    settings = [f"output={output}", "steps=1000", "validation.every=0", "log_every=1", "checkpoint_every=1000"]
    # A shell's background jobs ignore Ctrl-C
    code = (
        "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler); "
        "from amodal_diffusion.cli import main; sys.exit(main(sys.argv[1:]))"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, "train", str(DEBUG), "--set", *settings], stderr=subprocess.PIPE
    )
    log, deadline = output / "log.jsonl", time.monotonic() + 300
    while not (log.is_file() and '"loss"' in log.read_text()):
        assert time.monotonic() < deadline
        time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=300)
    assert process.returncode == 130
    assert b"ends after this step, with a checkpoint" in error
    assert b"Traceback" not in error
    assert list((output / "checkpoints").iterdir())
