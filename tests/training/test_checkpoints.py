"""Checkpoints are whole or absent, the newest sound one is found, nothing costs the only good one."""

from __future__ import annotations

import json
import logging
import resource
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator
from diffusers.training_utils import EMAModel
from torch import nn

from amodal_diffusion.basics import InputError
from amodal_diffusion.io.atomic import DIGESTS
from amodal_diffusion.models.hub import load_stage
from amodal_diffusion.training.checkpoints import (
    Checkpoints,
    Progress,
    averaged_weights,
    complete_checkpoints,
    export,
    find_checkpoint,
)
from tests.disk import Disk
from tests.factories import tiny_components


def checkpoints_of(folder: Path, network: nn.Module, *, keep: int = 2) -> Checkpoints:
    accelerator = Accelerator(cpu=True)
    accelerator.prepare(network, torch.optim.AdamW(network.parameters()))
    return Checkpoints(folder, accelerator, unet=network, ema=EMAModel(network.parameters(), decay=0.5), keep=keep)


def test_rotation_keeps_the_newest(tmp_path: Path) -> None:
    checkpoints = checkpoints_of(tmp_path, nn.Linear(2, 2))
    for step in (1, 2, 10, 9):
        checkpoints.save(Progress(step, 2 * step))
    assert [folder.name for folder in checkpoints.complete()] == ["00000009", "00000010"]


def test_loading_brings_weights_average_and_progress_back(tmp_path: Path) -> None:
    network = nn.Linear(2, 2)
    checkpoints = checkpoints_of(tmp_path, network)
    before = network.weight.detach().clone()
    folder = checkpoints.save(Progress(7, 14))
    with torch.no_grad():
        network.weight.zero_()
    checkpoints.ema.step(network.parameters())  # type: ignore[union-attr]
    assert checkpoints.load(folder) == Progress(7, 14)
    assert torch.equal(network.weight, before)
    assert torch.equal(checkpoints.ema.shadow_params[0], before)  # type: ignore[union-attr]


def test_an_unfinished_checkpoint_is_not_found_and_not_in_the_way(tmp_path: Path) -> None:
    checkpoints = checkpoints_of(tmp_path, nn.Linear(2, 2))
    good = checkpoints.save(Progress(1, 2))
    (tmp_path / "checkpoints/00000002.partial").mkdir()
    (tmp_path / "checkpoints/00000002.partial/unet.safetensors").write_bytes(b"half")
    assert find_checkpoint(tmp_path, "auto") == good
    checkpoints.save(Progress(2, 4))
    assert find_checkpoint(tmp_path, "auto") == tmp_path / "checkpoints/00000002"


def cut_short(folder: Path) -> None:
    with (folder / "optimizer.bin").open("r+b") as file:
        file.truncate(100)


def change_a_bit(folder: Path) -> None:
    path = folder / "ema.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def lose_a_file(folder: Path) -> None:
    (folder / "random_states_0.pkl").unlink()


def lose_progress(folder: Path) -> None:
    (folder / "progress.json").unlink()


def garble_the_list(folder: Path) -> None:
    (folder / DIGESTS).write_text("{")


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (cut_short, "optimizer.bin has 100 bytes"),
        (change_a_bit, "ema.safetensors is not what was written"),
        (lose_a_file, "random_states_0.pkl is missing"),
        (lose_progress, "progress.json is missing"),
        (garble_the_list, "it cannot be read"),
    ],
)
def test_a_damaged_one_gives_way_to_the_one_before(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, damage: Callable[[Path], None], reason: str
) -> None:
    checkpoints = checkpoints_of(tmp_path, nn.Linear(2, 2), keep=3)
    first, second, third = (checkpoints.save(Progress(step, 2 * step)) for step in (1, 2, 3))
    damage(third)
    if damage is not lose_progress:
        with pytest.raises(InputError, match=f"resume: {third} is damaged, {reason}"):
            find_checkpoint(tmp_path, str(third))
    with caplog.at_level(logging.WARNING):
        assert find_checkpoint(tmp_path, "auto") == second
    assert f"{third} is damaged, {reason}" in caplog.text
    assert sorted(path.name for path in checkpoints.folder.iterdir()) == ["00000001", "00000002", "00000003.damaged"]
    assert checkpoints.load(second) == Progress(2, 4)  # it is the newest now
    checkpoints.save(Progress(3, 6))
    assert checkpoints.complete() == [first, second, third]


def test_where_all_are_damaged_nothing_is_begun_anew(tmp_path: Path) -> None:
    checkpoints = checkpoints_of(tmp_path, nn.Linear(2, 2))
    for step in (1, 2):
        cut_short(checkpoints.save(Progress(step, step)))
    for _ in range(2):
        with pytest.raises(
            InputError, match=r"resume: none of the 2 checkpoints in .* is as it was written \(of 00000002"
        ):
            find_checkpoint(tmp_path, "auto")


def test_one_without_a_list_is_taken_as_earlier_versions_wrote_it(tmp_path: Path) -> None:
    checkpoints = checkpoints_of(tmp_path, nn.Linear(2, 2))
    folder = checkpoints.save(Progress(1, 2))
    (folder / DIGESTS).unlink()
    (folder / "progress.json").write_text('{"step": 1, "clips": 2}')
    assert find_checkpoint(tmp_path, "auto") == folder
    assert checkpoints.load(folder) == Progress(1, 2)


def test_a_write_that_fails_leaves_the_only_good_one(tmp_path: Path) -> None:
    checkpoints = checkpoints_of(tmp_path, nn.Linear(64, 64), keep=1)
    good = checkpoints.save(Progress(1, 2))
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limits[1]))  # the system refuses larger files
    try:
        with pytest.raises(InputError) as refused:
            checkpoints.save(Progress(2, 4))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    message = str(refused.value)
    assert message.startswith(f"output: checkpoint {checkpoints.folder / '00000002.partial'} cannot be written (")
    assert f"{good} is complete; make room" in message
    assert list(checkpoints.folder.iterdir()) == [good]
    assert find_checkpoint(tmp_path, "auto") == good
    assert find_checkpoint(tmp_path, "auto") == checkpoints.folder / "00000001"
    checkpoints.save(Progress(2, 4))
    assert [folder.name for folder in checkpoints.folder.iterdir()] == ["00000002"]


def test_rotation_never_counts_a_damaged_one(tmp_path: Path) -> None:
    checkpoints = checkpoints_of(tmp_path, nn.Linear(2, 2), keep=1)
    good = checkpoints.save(Progress(1, 2))
    kept = tmp_path / "kept"
    shutil.copytree(good, kept)
    checkpoints.save(Progress(2, 4))
    cut_short(checkpoints.folder / "00000002")
    kept.rename(good)
    assert find_checkpoint(tmp_path, "auto") == good
    checkpoints.load(good)
    checkpoints.save(Progress(2, 4))
    assert sorted(path.name for path in checkpoints.folder.iterdir()) == ["00000002", "00000002.damaged"]
    assert find_checkpoint(tmp_path, "auto") == checkpoints.folder / "00000002"


def test_the_gradient_scaler_of_float16_is_saved(tmp_path: Path) -> None:
    checkpoints = checkpoints_of(tmp_path, nn.Linear(2, 2))
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0, growth_interval=3)
    checkpoints.accelerator.scaler = scaler
    optimizer = checkpoints.accelerator._optimizers[0].optimizer
    for scale in (1.0, 1.0, float("inf"), 1.0):
        scaler.scale(scale * checkpoints.unet(torch.ones(1, 2)).sum()).backward()
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad()
    state = scaler.state_dict()
    assert (state["scale"], state["_growth_tracker"]) == (512.0, 1)
    folder = checkpoints.save(Progress(4, 8))
    fresh = torch.amp.GradScaler("cpu", init_scale=1024.0, growth_interval=3)
    checkpoints.accelerator.scaler = fresh
    checkpoints.load(folder)
    assert fresh.state_dict() == state


def test_another_runs_checkpoint_starts_only_an_empty_folder(tmp_path: Path) -> None:
    other = checkpoints_of(tmp_path / "other", nn.Linear(2, 2)).save(Progress(5, 10))
    assert find_checkpoint(tmp_path / "run", str(other)) == other
    checkpoints_of(tmp_path / "run", nn.Linear(2, 2)).save(Progress(9, 18))
    with pytest.raises(InputError, match="holds checkpoints of an earlier run"):
        find_checkpoint(tmp_path / "run", str(other))


def test_what_resume_means(tmp_path: Path) -> None:
    assert find_checkpoint(tmp_path, "auto") is None
    assert find_checkpoint(tmp_path, "none") is None
    folder = tmp_path / "checkpoints/00000003"
    folder.mkdir(parents=True)
    assert complete_checkpoints(tmp_path / "checkpoints") == []
    (folder / "progress.json").write_text(json.dumps({"step": 3, "clips": 6}))
    assert find_checkpoint(tmp_path, "auto") == folder
    assert find_checkpoint(tmp_path / "elsewhere", str(folder)) == folder
    with pytest.raises(InputError, match="holds checkpoints of an earlier run"):
        find_checkpoint(tmp_path, "none")
    with pytest.raises(InputError, match="resume: expected auto, none or a checkpoint's folder, got atuo"):
        find_checkpoint(tmp_path, "atuo")


def test_a_folder_that_is_no_checkpoint_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"has no progress\.json"):
        checkpoints_of(tmp_path, nn.Linear(2, 2)).load(tmp_path)


def test_one_of_a_network_in_shares_needs_such_a_launch(tmp_path: Path) -> None:
    checkpoints = checkpoints_of(tmp_path, nn.Linear(2, 2))
    folder = checkpoints.save(Progress(1, 2))
    (folder / "optimizer.bin").rename(folder / "optimizer_0")
    with pytest.raises(InputError, match="was saved under another kind of launch than NO; give the same file"):
        checkpoints.load(folder)


def test_averaged_weights_are_lent() -> None:
    network = nn.Linear(2, 2)
    ema = EMAModel(network.parameters(), decay=0.5)
    before = network.weight.detach().clone()
    with torch.no_grad():
        network.weight.add_(1)
    with averaged_weights(network, ema):
        assert torch.equal(network.weight, before)
    assert torch.equal(network.weight, before + 1)
    with averaged_weights(network, None):
        assert torch.equal(network.weight, before + 1)


def test_an_export_takes_the_place_of_an_earlier_one(tmp_path: Path) -> None:
    components = tiny_components()
    for _ in range(2):
        export(components, tmp_path / "model")
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
    assert load_stage(tmp_path / "model", stage="amodal_segmentation").settings == components.settings


@pytest.mark.skipif(sys.platform != "linux", reason="syncs are followed as Linux can")
def test_the_only_checkpoint_goes_once_the_disk_has_the_next(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With ``keep: 1`` a power cut at any moment leaves a whole one."""
    network, disk = nn.Linear(2, 2), Disk()
    checkpoints = checkpoints_of(tmp_path, network, keep=1)
    checkpoints.save(Progress(1, 2))
    disk.watch(monkeypatch)
    checkpoints.save(Progress(2, 4))
    first, second = (checkpoints.folder / f"{step:08d}" for step in (1, 2))
    named = disk.place("rename", f"{second}.partial", second)
    files = [file for file in second.rglob("*") if file.is_file()]
    assert files
    for file in files:
        written = Path(f"{second}.partial") / file.relative_to(second)
        assert 0 <= disk.place("sync", written) < disk.place("sync", written.parent) < named
    assert named < disk.place("sync", checkpoints.folder) < disk.place("rename", first, f"{first}.partial")
    assert not first.exists()
