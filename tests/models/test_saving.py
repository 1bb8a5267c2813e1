"""Models written to folders: what stages share, what is their own, nothing overwritten, no path of this machine."""

from __future__ import annotations

import json
import resource
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from amodal_diffusion.basics import STAGES, InputError
from amodal_diffusion.io.atomic import DIGESTS
from amodal_diffusion.models.checkpoint import SETTINGS_FILE, read_settings
from amodal_diffusion.models.hub import load_stage
from amodal_diffusion.models.saving import convert, save_model, save_stage
from tests.factories import SAMPLING, tiny_components, tiny_distilled_vae, tiny_vae


@pytest.fixture
def stage(tmp_path: Path) -> Path:
    """A single-stage checkpoint in the package's layout."""
    save_stage(tiny_components(), tmp_path / "stage")
    return tmp_path / "stage"


def test_no_file_says_where_a_network_was_read_from(tmp_path: Path) -> None:
    save_stage(replace(tiny_components(), vae=tiny_distilled_vae()), tmp_path / "first")
    loaded = load_stage(tmp_path / "first", stage="amodal_segmentation")
    assert Path(loaded.vae.config["_name_or_path"]) == tmp_path / "first" / "vae"  # as diffusers notes it
    save_stage(loaded, tmp_path / "second")
    for first in sorted((tmp_path / "first").rglob("*.json")):
        second = tmp_path / "second" / first.relative_to(tmp_path / "first")
        assert str(tmp_path) not in second.read_text()
        assert json.loads(second.read_text()) == json.loads(first.read_text())


def test_a_disk_without_room_is_one_line(tmp_path: Path) -> None:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limits[1]))  # the system refuses larger files
    try:
        with pytest.raises(
            InputError, match=r"unet: cannot be written \(.*\); make room and give the same command again"
        ):
            save_stage(tiny_components(), tmp_path / "stage")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def test_both_stages_share_parts_in_half_precision(tmp_path: Path) -> None:
    save_model([tiny_components(stage) for stage in STAGES], tmp_path / "model", dtype="float16")
    for stage in STAGES:
        loaded = load_stage(tmp_path / "model", stage=stage)
        assert loaded.settings.stage == stage
        assert loaded.settings.sampling == SAMPLING
        assert loaded.unet.dtype == torch.float32
    weights = load_file(tmp_path / "model" / STAGES[0] / "unet" / "diffusion_pytorch_model.safetensors")
    assert {value.dtype for value in weights.values()} == {torch.float16}
    assert not (tmp_path / "model" / STAGES[0] / "vae").exists()


def test_a_stage_keeps_the_parts_that_are_its_own(tmp_path: Path) -> None:
    first, second = (tiny_components(stage) for stage in STAGES)
    for name, own in (("weights", tiny_vae(seed=1)), ("scale", tiny_vae())):
        if name == "scale":
            own.register_to_config(scaling_factor=0.25)
        save_model([first, replace(second, vae=own)], tmp_path / name)
        for stage, expected in zip(STAGES, (first.vae, own), strict=True):
            loaded = load_stage(tmp_path / name, stage=stage)
            assert loaded.vae.config.scaling_factor == expected.config.scaling_factor
            weights = expected.state_dict()
            assert all(torch.equal(value, weights[key]) for key, value in loaded.vae.state_dict().items())
        assert (tmp_path / name / STAGES[1] / "vae").is_dir()
        assert not (tmp_path / name / STAGES[1] / "image_encoder").exists()


def test_convert_writes_this_packages_layout_once(stage: Path, tmp_path: Path) -> None:
    for name in (SETTINGS_FILE, DIGESTS):  # as in the released layout, which says nothing of its stage
        (stage / name).unlink()
    for name in STAGES:
        convert(stage, tmp_path / "out", stage=name)
        assert read_settings(tmp_path / "out" / name).stage == name
        assert load_stage(tmp_path / "out", stage=name).unet.config.in_channels == 12
    with pytest.raises(InputError, match="exists; choose another folder"):
        convert(stage, tmp_path / "out", stage="content_completion")


def test_nothing_is_overwritten(stage: Path) -> None:
    with pytest.raises(InputError, match="not empty"):
        save_stage(tiny_components(), stage)
    with pytest.raises(InputError, match="not empty"):
        save_model([tiny_components()], stage)
