"""Two processes go on after whatever ends them: same weights, same clips, together or not at all."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from amodal_diffusion.models.hub import load_stage
from amodal_diffusion.parsing import save_settings
from amodal_diffusion.training.distributed import Termination, make_accelerator
from amodal_diffusion.training.order import ClipOrder
from amodal_diffusion.training.settings import TrainingSettings, ValidationSettings
from amodal_diffusion.training.setup import train
from amodal_diffusion.training.validation import Validator
from tests.training.conftest import tiny_settings
from tests.training.drills import let_go, make_pipes, wait_for_run
from tests.training.launching import LAUNCH, fork, forked, launch, launch_as, started
from tests.training.states import assert_equal, checkpoint, state_of

DRILL = ("-m", "tests.training.drills")
SHARED_OUT = [
    ("fsdp", "share_out"),
    pytest.param(
        "deepspeed_zero2",
        "share_out_optimizer",
        marks=pytest.mark.skipif(find_spec("deepspeed") is None, reason="needs the package deepspeed"),
    ),
]


def lines_of(settings: TrainingSettings) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (settings.output / "log.jsonl").read_text().splitlines()]


def assert_two_processes(settings: TrainingSettings) -> None:
    assert {line["processes"] for line in lines_of(settings) if line.get("event") == "start"} == {2}


def config_of(settings: TrainingSettings) -> str:
    path = settings.output.with_suffix(".yaml")
    save_settings(settings, path)
    return str(path)


def descendants(number: int) -> list[int]:
    """Numbers of a process and of all that it has started, and so on."""
    children = [
        int(child)
        for thread in Path(f"/proc/{number}/task").iterdir()
        for child in (thread / "children").read_text().split()
    ]
    return [number, *(entry for child in children for entry in descendants(child))]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, vae_folder: Path) -> TrainingSettings:
    """Six steps of two processes with a batch of one each, every checkpoint kept, and the clips that each made."""
    folder = tmp_path_factory.mktemp("whole")
    settings = tiny_settings(
        vae_folder,
        output=folder / "run",
        batch_size=1,
        steps=6,
        checkpoint_every=1,
        keep_checkpoints=9,
        validation=ValidationSettings(every=6, clips=3, pictures=2),
    )
    fork("record", folder, "--config", config_of(settings))
    assert_two_processes(settings)
    return settings


def clips_made(folder: Path, split: str = "train") -> list[list[int]]:
    return [[int(line) for line in (folder / f"{split}_{rank}.txt").read_text().split()] for rank in range(2)]


def test_six_steps_equal_three_and_three_more(whole: TrainingSettings, tmp_path: Path) -> None:
    settings = replace(whole, output=tmp_path / "run")
    shutil.copytree(checkpoint(whole, 3), checkpoint(settings, 3))
    fork("record", tmp_path, "--config", config_of(settings))
    assert_two_processes(settings)
    last = checkpoint(settings, 6)
    assert {path.name for path in last.glob("random_states_*")} == {"random_states_0.pkl", "random_states_1.pkl"}
    assert_equal(state_of(checkpoint(whole, 6)), state_of(last))
    order = ClipOrder(whole.data.clips, whole.seed)
    first = clips_made(whole.output.parent)
    assert first == [[order.clip_at(2 * step + rank) for step in range(6)] for rank in range(2)]
    # Nothing is made again to get there.
    assert clips_made(tmp_path) == [clips[3:] for clips in first]


def test_no_wrapper_outlives_the_group_of_processes(whole: TrainingSettings) -> None:
    """Torch would hang now and then as it ends the group that the wrapper still holds."""
    assert [(whole.output.parent / f"wrapped_{rank}.txt").read_text() for rank in range(2)] == ["0", "0"]


def test_two_processes_validate_as_one_does(whole: TrainingSettings, tmp_path: Path) -> None:
    settings = replace(whole, output=tmp_path / "one")
    found = Validator(settings, make_accelerator("no"), Termination())(
        load_stage(whole.output / "model", stage="amodal_segmentation"), 7
    )
    assert found is not None
    logged = next(line for line in reversed(lines_of(whole)) if "miou" in line)
    assert {name: logged[name] for name in found.figures} == pytest.approx(found.figures, rel=1e-4)
    picture = np.asarray(Image.open(whole.output / "validation/00000006.png"), dtype=np.float64)
    assert np.abs(picture - found.picture).mean() < 0.1
    # Of three clips each takes its turn, with the guide and without; the second takes the last once more.
    assert clips_made(whole.output.parent, "validation") == [[0, 2, 0, 2], [1, 2, 1, 2]]


def test_two_processes_have_the_gradients_of_one_with_twice_the_batch(whole: TrainingSettings, tmp_path: Path) -> None:
    train(
        replace(whole, output=tmp_path / "one", batch_size=2, max_minutes=1e-9, validation=ValidationSettings(every=0))
    )
    # The first moments of the first step are the gradients, times a tenth.
    shared, alone = (
        {name: value for name, value in state_of(folder)["moments"].items() if name.endswith(".exp_avg")}
        for folder in (checkpoint(whole, 1), tmp_path / "one/checkpoints/00000001")
    )
    assert shared.keys() == alone.keys()
    flat = [torch.cat([value.flatten().double() for value in gradients.values()]) for gradients in (shared, alone)]
    assert (flat[0] - flat[1]).norm() <= 1e-5 * flat[1].norm()


def test_a_loss_of_one_process_that_is_no_number_skips_the_step_of_both(
    whole: TrainingSettings, tmp_path: Path
) -> None:
    settings = replace(whole, output=tmp_path / "run", max_bad_steps=2)
    printed = fork("not_finite", tmp_path, "--config", config_of(settings), status=2)
    assert_two_processes(settings)
    skipped = [line for line in lines_of(settings) if line.get("event") == "skipped step"]
    assert [line["step"] for line in skipped] == [2, 4, 5]
    order = ClipOrder(settings.data.clips, settings.seed)
    # The clip of the second process alone is named.
    assert [line["clips"] for line in skipped] == [[f"train-{order.clip_at(2 * step - 1):06d}"] for step in (2, 4, 5)]
    assert "error: loss: not finite in 2 steps in a row up to step 5" in printed
    states = [state_of(settings.output / f"checkpoints/0000000{step}") for step in range(1, 5)]
    assert all(torch.equal(value, states[1]["unet"][name]) for name, value in states[0]["unet"].items())
    assert any(not torch.equal(value, states[2]["unet"][name]) for name, value in states[1]["unet"].items())
    assert [state["progress"]["skipped_steps"] for state in states] == [0, 1, 1, 2]
    assert [state["progress"]["skipped_in_a_row"] for state in states] == [0, 1, 0, 1]
    assert all(value.isfinite().all() for state in states for value in state["unet"].values())


@pytest.mark.slow
def test_a_clip_that_one_process_cannot_read_ends_both_with_its_name(whole: TrainingSettings, tmp_path: Path) -> None:
    two = replace(whole, output=tmp_path / "run", checkpoint_every=100)
    printed = fork("damage", tmp_path, "--config", config_of(two), status=2)
    assert_two_processes(two)
    order = ClipOrder(two.data.clips, two.seed)
    place = next(count for count in range(12) if order.clip_at(count) == 3)
    reason = "OSError: cannot identify image file train-000003"
    assert printed.count(f"error: data: train-000003 cannot be read ({reason}); repair it") == 2
    newest = sorted((two.output / "checkpoints").iterdir())[-1] if place >= 2 else None
    assert newest is None or int(newest.name) == place // 2  # the step before is saved

    fork("damage", tmp_path, "--config", config_of(two), "--on-bad-sample", "skip")
    event = next(line for line in lines_of(two) if line.get("event") == "skipped clips")
    assert event["clips"] == [f"train-000003: {reason}"]
    assert state_of(two.output / "checkpoints/00000006")["progress"]["skipped_clips"] >= 1


@pytest.mark.slow
def test_sigterm_saves_the_same_step_of_both_and_the_rest_is_exact(whole: TrainingSettings, tmp_path: Path) -> None:
    settings = replace(whole, output=tmp_path / "run", checkpoint_every=100, data=replace(whole.data, workers=1))
    command = (*DRILL, "linger", str(tmp_path), "--config", config_of(settings))
    make_pipes(tmp_path, 0, 1)
    with started(*LAUNCH, *command) as process:
        wait_for_run(tmp_path, 0, 1)
        for number in descendants(process.pid):  # as a scheduler does: the launcher, both processes, their loaders
            os.kill(number, signal.SIGTERM)
        let_go(tmp_path, 0, 1)
        printed, _ = process.communicate(timeout=300)
    assert "Traceback" not in printed.partition("SignalException")[0].rpartition("Traceback")[0], printed
    assert_two_processes(settings)
    assert lines_of(settings)[-1]["event"] == "terminated"
    assert [path.name for path in (settings.output / "checkpoints").iterdir()] == ["00000003"]
    assert not (settings.output / "model").exists()
    launch("-m", "amodal_diffusion.training", "--config", config_of(settings))
    assert_equal(state_of(checkpoint(whole, 6)), state_of(checkpoint(settings, 6)))


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "drill"), SHARED_OUT)
def test_what_is_shared_out_trains_resumes_and_is_exported_whole(
    whole: TrainingSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, drill: str
) -> None:
    monkeypatch.setenv("DS_ACCELERATOR", "cpu")
    first, rest, at_once = (replace(whole, output=tmp_path / name) for name in ("first", "rest", "at_once"))
    for settings in (replace(first, max_minutes=1e-9), rest, at_once):
        if settings is rest:
            shutil.copytree(checkpoint(first, 1), checkpoint(rest, 1))
        launch_as(kind, *DRILL, drill, str(tmp_path), "--config", config_of(settings))
        assert_two_processes(settings)
    for name in ("unet", "ema"):
        resumed, never_stopped, undivided = (
            load_file(checkpoint(run, 6) / f"{name}.safetensors") for run in (rest, at_once, whole)
        )
        assert all(torch.equal(value, never_stopped[key]) for key, value in resumed.items())
        assert resumed.keys() == undivided.keys()
        for key, value in resumed.items():
            torch.testing.assert_close(value, undivided[key], atol=2e-3, rtol=0)  # a few steps of 1e-3 of Adam
    exported = dict(load_stage(rest.output / "model", stage="amodal_segmentation").unet.named_parameters())
    average = load_file(checkpoint(rest, 6) / "ema.safetensors")
    assert all(torch.equal(exported[key], value) for key, value in average.items())


def test_a_disk_that_is_full_for_one_process_ends_both_and_costs_no_checkpoint(
    whole: TrainingSettings, tmp_path: Path
) -> None:
    settings = replace(whole, output=tmp_path / "run")
    printed = fork("fill_disk", tmp_path, "--config", config_of(settings), status=2)
    assert_disk_was_full(settings, printed)


@pytest.mark.slow
def test_a_disk_that_is_full_for_one_share_of_a_network_likewise(whole: TrainingSettings, tmp_path: Path) -> None:
    settings = replace(whole, output=tmp_path / "run")
    command = (*DRILL, "share_out+fill_disk", str(tmp_path), "--config", config_of(settings))
    assert_disk_was_full(settings, launch_as("fsdp", *command, status=1))


def assert_disk_was_full(settings: TrainingSettings, printed: str) -> None:
    assert_two_processes(settings)
    assert printed.count("error: output: checkpoint ") == 2
    assert "00000001 is complete; make room and give the same command to go on" in printed
    assert [path.name for path in (settings.output / "checkpoints").iterdir()] == ["00000001"]


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "drill"), SHARED_OUT)
def test_what_is_shared_out_leaves_a_step_without_a_loss_out(
    whole: TrainingSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, drill: str
) -> None:
    monkeypatch.setenv("DS_ACCELERATOR", "cpu")
    settings = replace(whole, output=tmp_path / "run", steps=3, validation=ValidationSettings(every=0))
    launch_as(kind, *DRILL, f"{drill}+not_finite", str(tmp_path), "--config", config_of(settings))
    assert_two_processes(settings)
    (skipped,) = (line for line in lines_of(settings) if line.get("event") == "skipped step")
    order = ClipOrder(settings.data.clips, settings.seed)
    assert (skipped["step"], skipped["clips"]) == (2, [f"train-{order.clip_at(3):06d}"])
    one, two, three = (load_file(checkpoint(settings, step) / "unet.safetensors") for step in (1, 2, 3))
    assert all(torch.equal(value, two[name]) for name, value in one.items())
    assert any(not torch.equal(value, three[name]) for name, value in two.items())
    assert all(value.isfinite().all() for value in three.values())


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_ten_kills_at_random_moments_change_nothing(whole: TrainingSettings, tmp_path: Path) -> None:
    """SIGKILL to both processes, each time as the first calls another function; then the same command again."""
    settings = replace(whole, output=tmp_path / "run", validation=ValidationSettings(every=0), keep_checkpoints=2)
    command = ("--config", config_of(settings))
    fork("pause", tmp_path, *command)
    calls, chance = int((tmp_path / "calls").read_text()), random.Random(0)
    make_pipes(tmp_path, 0)
    left: list[str] = []
    for _ in range(10):
        shutil.rmtree(settings.output)
        (tmp_path / "pause_at").write_text(str(chance.randrange(calls * 9 // 10)))  # in any case one that comes
        with forked("pause", tmp_path, *command) as group:
            wait_for_run(tmp_path, 0)
            group.send(signal.SIGKILL)
            group.wait(-signal.SIGKILL)
        left.append(" ".join(sorted(path.name for path in (settings.output / "checkpoints").glob("*"))))
        fork("", tmp_path, *command)
        assert_two_processes(settings)
        assert_equal(state_of(checkpoint(whole, 6)), state_of(checkpoint(settings, 6)))
    assert len(set(left)) > 1  # they did come at different moments


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_twenty_launches_end_by_themselves(whole: TrainingSettings, tmp_path: Path) -> None:
    for number in range(20):
        settings = replace(whole, output=tmp_path / str(number), steps=1)
        with started(*LAUNCH, "train/train_amodal_segmentation.py", "--config", config_of(settings)) as process:
            printed, _ = process.communicate(timeout=600)
            assert process.returncode == 0, printed
        assert_two_processes(settings)
        assert "Traceback" not in printed
