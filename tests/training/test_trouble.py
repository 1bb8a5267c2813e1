"""What goes wrong in a run of one process: clips, losses, requests to end, the disk, a kill."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from amodal_diffusion.basics import InputError
from amodal_diffusion.data.samples import AmodalSample, SceneDataset
from amodal_diffusion.parsing import save_settings
from amodal_diffusion.training import trainer
from amodal_diffusion.training.clip_sources import training_clips
from amodal_diffusion.training.dataset import TaskClips
from amodal_diffusion.training.distributed import TERMINATED_STATUS, make_accelerator
from amodal_diffusion.training.networks import build_components
from amodal_diffusion.training.order import ClipOrder
from amodal_diffusion.training.settings import TrainingSettings, ValidationSettings
from amodal_diffusion.training.trainer import Trainer
from amodal_diffusion.training.validation import Validator
from tests.training.conftest import MakeSettings, fit
from tests.training.drills import let_go, make_pipes, wait_for_run
from tests.training.launching import fork, forked
from tests.training.states import assert_equal, checkpoint, state_of


def events(settings: TrainingSettings, name: str) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in (settings.output / "log.jsonl").read_text().splitlines()]
    return [line for line in lines if line.get("event") == name]


@pytest.fixture
def unreadable(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Makes one clip of the training split unreadable."""
    make = SceneDataset.__getitem__

    def spoil(bad: int) -> None:
        def refuse(dataset: SceneDataset, index: int) -> AmodalSample:
            if dataset.series.split == "train" and index == bad:
                raise OSError("broken data stream\nwhen reading image file")
            return make(dataset, index)

        monkeypatch.setattr(SceneDataset, "__getitem__", refuse)

    return spoil


def spoil_losses(monkeypatch: pytest.MonkeyPatch, *steps: int) -> None:
    """Let the loss be no number in these steps, counted from 1 on."""
    compute, calls = trainer.training_loss, iter(range(1, 1000))

    def spoiled(*arguments: Any, **settings: Any) -> Tensor:
        loss = compute(*arguments, **settings)
        return loss * float("inf") if next(calls) in steps else loss

    monkeypatch.setattr(trainer, "training_loss", spoiled)


def end_in_step(monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    """Send Ctrl-C, twice as launchers do, and SIGTERM to this process in a step, counted from 1."""
    take = Trainer._step

    def ended(training: Trainer, *arguments: Any) -> Any:
        if training.progress.step == step - 1:
            for number in (signal.SIGINT, signal.SIGINT, signal.SIGTERM):
                signal.raise_signal(number)
        return take(training, *arguments)

    monkeypatch.setattr(Trainer, "_step", ended)


def test_an_unreadable_clip_ends_the_run_with_its_name_or_is_skipped(
    make_settings: MakeSettings, unreadable: Callable[[int], None], tmp_path: Path
) -> None:
    settings = make_settings(batch_size=1)
    bad = ClipOrder(6, seed=0).clip_at(2)
    unreadable(bad)
    reason = "OSError: broken data stream when reading image file"
    with pytest.raises(InputError, match=rf"data: train-{bad:06d} cannot be read \({reason}\); repair it, or give on"):
        fit(settings)
    assert [path.name for path in (settings.output / "checkpoints").iterdir()] == ["00000002"]

    fit(replace(settings, on_bad_sample="skip"))
    assert events(settings, "skipped clips") == [
        {"event": "skipped clips", "step": 2, "clips": [f"train-{bad:06d}: {reason}"]}
    ]
    whole = replace(settings, output=tmp_path / "whole", on_bad_sample="skip")
    fit(whole)
    assert state_of(checkpoint(whole, 4))["progress"]["skipped_clips"] == 1
    assert_equal(state_of(checkpoint(whole, 4)), state_of(checkpoint(settings, 4)))


def test_data_that_is_gone_ends_the_run_even_when_skipping(
    make_settings: MakeSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(SceneDataset, "__getitem__", lambda *_: Path("/no/such/frame").read_bytes())
    with pytest.raises(InputError, match="data: none of 12 clips can be read, the last of them train-00000"):
        fit(make_settings(on_bad_sample="skip"))


def test_a_loss_that_is_no_number_leaves_the_step_out(
    make_settings: MakeSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = make_settings(steps=3, checkpoint_every=1, keep_checkpoints=9)
    spoil_losses(monkeypatch, 2)
    fit(settings)
    states = [state_of(checkpoint(settings, step)) for step in (1, 2, 3)]
    for part in ("unet", "moments"):
        assert all(torch.equal(value, states[1][part][name]) for name, value in states[0][part].items())
        assert any(not torch.equal(value, states[2][part][name]) for name, value in states[1][part].items())
    (event,) = events(settings, "skipped step")
    assert event["step"] == 2
    assert event["clips"] == [f"train-{ClipOrder(6, seed=0).clip_at(count):06d}" for count in (2, 3)]
    lines = [json.loads(line) for line in (settings.output / "log.jsonl").read_text().splitlines()]
    figures = {line["step"]: line for line in lines if "learning_rate" in line}
    assert "loss" not in figures[2]
    assert [figures[step].get("skipped_steps") for step in (1, 2, 3)] == [None, 1, 1]


def test_too_many_in_a_row_end_the_run(make_settings: MakeSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    spoil_losses(monkeypatch, 1, 3, 4)
    with pytest.raises(
        InputError, match="loss: not finite in 2 steps in a row up to step 4, the last with train-00000"
    ):
        fit(make_settings(max_bad_steps=2, steps=6))


def test_the_count_in_a_row_outlives_the_run(make_settings: MakeSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = make_settings(max_bad_steps=2, max_minutes=1e-9)
    spoil_losses(monkeypatch, 1, 2)
    assert fit(settings).step == 1
    with pytest.raises(InputError, match="loss: not finite in 2 steps in a row up to step 2"):
        fit(settings)


def test_a_gradient_scaler_skips_by_itself_and_outlives_a_loss_without_number(
    make_settings: MakeSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = make_settings(steps=3)
    accelerator = make_accelerator("no")
    accelerator.scaler = torch.amp.GradScaler("cpu", init_scale=2.0**40, backoff_factor=2.0**-20)
    components = build_components(settings)
    spoil_losses(monkeypatch, 2)
    compute, calls = trainer.training_loss, iter(range(1, 4))

    def steep(unet: nn.Module, *arguments: Any, **settings: Any) -> Tensor:
        loss = compute(unet, *arguments, **settings)
        return loss + 1e30 * next(unet.parameters()).sum() if next(calls) == 1 else loss

    monkeypatch.setattr(trainer, "training_loss", steep)
    settings.output.mkdir()
    training = Trainer(settings, accelerator, components=components, clips=training_clips(settings))
    # What Accelerate's float16 is on a GPU, without the casts: it unscales and updates as it does there.
    accelerator.native_amp, accelerator.state._mixed_precision = True, "fp16"
    before = [value.clone() for value in components.unet.parameters()]
    training.fit()
    # Step 1 overflows and scales less, step 2 has no loss, step 3 trains.
    assert training.progress.skipped_steps == 1
    assert accelerator.scaler.get_scale() == 1.0
    assert all(value.isfinite().all() for value in components.unet.parameters())
    assert any(not torch.equal(old, new) for old, new in zip(before, components.unet.parameters(), strict=True))


def test_a_request_to_end_saves_and_the_rest_is_exact(
    finished: TrainingSettings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    earlier = signal.getsignal(signal.SIGTERM)
    settings = replace(finished, output=tmp_path / "run", checkpoint_every=100)
    with monkeypatch.context() as patch:
        end_in_step(patch, 2)
        result = fit(settings)
    assert (result.step, result.finished, result.terminated) == (2, False, True)
    assert signal.getsignal(signal.SIGTERM) is earlier
    assert events(settings, "terminated") == [{"event": "terminated", "step": 2}]
    assert not result.model.exists()
    assert fit(settings).finished
    assert_equal(state_of(checkpoint(finished, 4)), state_of(checkpoint(settings, 4)))


def test_a_request_during_validation_breaks_it_off(
    make_settings: MakeSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = make_settings(validation=ValidationSettings(every=1, clips=3, pictures=1))
    read, made = Validator._read, []

    def ended(validator: Validator, clips: TaskClips, index: int) -> AmodalSample:
        made.append(index)
        signal.raise_signal(signal.SIGTERM)
        return read(validator, clips, index)

    monkeypatch.setattr(Validator, "_read", ended)
    result = fit(settings)
    assert (result.step, result.terminated, made) == (1, True, [0])
    assert checkpoint(settings, 1).is_dir()


def test_nothing_is_written_before_the_checkpoint_is_found_to_fit(finished: TrainingSettings, tmp_path: Path) -> None:
    settings = replace(finished, output=tmp_path / "run")
    shutil.copytree(finished.output, settings.output)
    before = {path: path.read_bytes() for path in settings.output.rglob("*") if path.is_file()}
    wider = replace(settings.model, unet=replace(settings.model.unet, cross_attention_dim=24))
    with pytest.raises(InputError, match="saved by another network"):
        fit(replace(settings, steps=5, model=wider))
    with pytest.raises(InputError, match="holds checkpoints of an earlier run"):
        fit(replace(settings, resume="none"))
    assert {path: path.read_bytes() for path in settings.output.rglob("*") if path.is_file()} == before


def test_sigterm_ends_the_process_with_its_status(make_settings: MakeSettings, tmp_path: Path) -> None:
    settings = make_settings(steps=500)
    save_settings(settings, tmp_path / "run.yaml")
    make_pipes(tmp_path, 0)
    with forked("linger", tmp_path, "--config", str(tmp_path / "run.yaml"), processes=1) as group:
        wait_for_run(tmp_path, 0)
        group.send(signal.SIGTERM)
        let_go(tmp_path, 0)
        group.wait(TERMINATED_STATUS)
    assert TERMINATED_STATUS == 143
    assert [path.name for path in (settings.output / "checkpoints").iterdir()] == ["00000003"]


def test_a_kill_in_the_middle_of_a_checkpoint_loses_only_that(finished: TrainingSettings, tmp_path: Path) -> None:
    settings = replace(finished, output=tmp_path / "run", keep_checkpoints=2)
    save_settings(settings, tmp_path / "run.yaml")
    fork("kill", tmp_path, "--config", str(tmp_path / "run.yaml"), processes=1, status=-signal.SIGKILL)
    assert {path.name for path in (settings.output / "checkpoints").iterdir()} == {"00000001", "00000002.partial"}
    log = settings.output / "log.jsonl"
    cut = log.read_text() + '{"step": 3, "lo'
    log.write_text(cut)  # as a kill in the middle of a line leaves it
    fit(settings)
    before, after = log.read_text().removeprefix(cut).split("\n", maxsplit=1)
    assert before == ""
    assert json.loads(after.splitlines()[0])["step"] == 1
    assert_equal(state_of(checkpoint(finished, 4)), state_of(checkpoint(settings, 4)))
    assert {path.name for path in (settings.output / "checkpoints").iterdir()} == {"00000003", "00000004"}


def test_a_full_disk_is_one_line_and_costs_no_checkpoint(finished: TrainingSettings, tmp_path: Path) -> None:
    if subprocess.run(["unshare", "--mount", "--map-root-user", "true"], capture_output=True, check=False).returncode:
        pytest.skip("a small disk of one's own needs unshare with user namespaces")
    size = sum(path.stat().st_size for path in checkpoint(finished, 4).rglob("*"))
    disk = tmp_path / "disk"
    disk.mkdir()
    settings = replace(finished, output=disk / "run")
    save_settings(settings, tmp_path / "run.yaml")
    (tmp_path / "disk_bytes").write_text(str(size * 3 // 2))
    printed = fork("small_disk", tmp_path, "--config", str(tmp_path / "run.yaml"), processes=1, status=2)
    (line,) = [line for line in printed.splitlines() if line.startswith("error: ")]
    assert line.startswith(f"error: output: checkpoint {disk}/run/checkpoints/00000002.partial cannot be written (")
    assert line.endswith(f"{disk}/run/checkpoints/00000001 is complete; make room and give the same command to go on")
    assert "Traceback" not in printed
    kept = tmp_path / "kept/run"
    assert [path.name for path in (kept / "checkpoints").iterdir()] == ["00000001"]
    shutil.move(kept, disk / "run")
    fit(settings)
    assert_equal(state_of(checkpoint(finished, 4)), state_of(checkpoint(settings, 4)))
