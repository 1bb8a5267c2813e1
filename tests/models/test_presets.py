"""Presets by name: the paper's inference for any checkpoint, the checkpoint's own, and few steps."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from amodal_diffusion.basics import STAGES, InputError, Stage
from amodal_diffusion.config import MASK_FILTERS, BeyondPaper, SamplingConfig
from amodal_diffusion.io.atomic import DIGESTS
from amodal_diffusion.models.checkpoint import (
    FEW_STEPS,
    PRESETS,
    SETTINGS_FILE,
    CheckpointSettings,
    read_settings,
    released_settings,
)
from amodal_diffusion.models.hub import load_stage, settings_of_released, stage_settings
from amodal_diffusion.models.saving import convert, save_stage
from tests.factories import SAMPLING, tiny_components, tiny_unet

OWN: dict[str, dict[str, Any]] = {"fast": {"num_inference_steps": 3, "guidance_interval": [0.5, 5.0], "tta": 2}}
ODD = SamplingConfig(
    num_inference_steps=3, guidance_scale=4.0, guidance_interval=(1.0, 2.0), scheduler="heun", sigma_min=0.1,
    sigma_max=50.0, noise_aug_strength=0.0, height=64, width=96, num_frames=8, fit="crop", resample="cv2",
    mask_threshold=0.3, samples=3, fps=12, motion_bucket_id=40, decode_chunk_size=5,
    beyond=BeyondPaper(
        crop_scale=3.0, temporal_prior=True, mask_propagation=True, expected_iou_weight=0.1,
        mask_filters=MASK_FILTERS, skip_unoccluded=True, tta=4, color_propagation=True, seam_blending=True,
        shrink_mask=2,
    ),
)  # fmt: skip
"""A checkpoint that differs from the paper in every field."""

PAPER_OF_ODD = {
    "num_inference_steps": 25,
    "guidance_scale": 1.5,
    "guidance_interval": None,
    "scheduler": "euler",
    "sigma_min": None,
    "sigma_max": None,
    "initial_noise": "random",
    "noise_aug_strength": 0.02,
    "height": 64,  # geometry, window and what the network was told in training stay the checkpoint's
    "width": 96,
    "num_frames": 8,
    "fit": "crop",
    "resample": "cv2",
    "conditioning": "released",
    "mask_threshold": 600 / 765,  # the sum of the three 8-bit channels above 600
    "samples": 1,
    "fps": 12,
    "motion_bucket_id": 40,
    "decode_chunk_size": 8,
    "encode_chunk_size": None,
    "beyond": {
        "crop_scale": 3.0,
        "temporal_prior": True,  # as the checkpoint was trained
        "mask_propagation": False,
        "expected_iou_weight": None,
        "mask_filters": (),
        "skip_unoccluded": False,
        "shrink_mask": 0,
        "tta": 1,
        "color_propagation": False,
        "seam_blending": False,
    },
}
RELEASED: dict[str, Any] = {
    **PAPER_OF_ODD,
    "height": 256,
    "width": 512,
    "num_frames": 25,
    "fit": "stretch",
    "resample": "pil",
    "fps": 8,
    "motion_bucket_id": 127,
    "beyond": {**PAPER_OF_ODD["beyond"], "crop_scale": 2.0, "temporal_prior": False},  # type: ignore[dict-item]
}


@pytest.mark.parametrize("presets", [{}, OWN, FEW_STEPS], ids=["none", "own", "few steps"])
def test_the_papers_inference_field_by_field(presets: dict[str, dict[str, Any]]) -> None:
    assert asdict(ODD).keys() == PAPER_OF_ODD.keys()
    settings = CheckpointSettings("amodal_segmentation", ODD, presets=presets)
    assert asdict(settings.preset("paper")) == PAPER_OF_ODD


def released_folder(folder: Path) -> Path:
    """A checkpoint in the released layout: no ``checkpoint.json``, and a UNet that says 8 channels."""
    save_stage(tiny_components(), folder)
    (folder / SETTINGS_FILE).unlink()
    tiny_unet(in_channels=8).save_config(folder / "unet")
    return folder


@pytest.mark.parametrize("stage", STAGES)
def test_the_released_layout_is_sampled_as_in_the_paper_by_default(stage: Stage, tmp_path: Path) -> None:
    settings = stage_settings(released_folder(tmp_path / "released"), stage)
    assert settings == settings_of_released(stage)
    assert settings == replace(released_settings(stage), depth_model=settings.depth_model)
    assert (settings.depth_model is not None) == (stage == "amodal_segmentation")
    assert settings.default_preset == "paper"
    for name in (None, "paper"):
        assert asdict(settings.preset(name)) == RELEASED  # type: ignore[arg-type]  # names of presets
    assert settings.preset("default").conditioning == settings.preset("fast").conditioning == "corrected"
    assert settings.preset("default").fit == "stretch"


def test_the_papers_inference_of_the_package_s_own_layout(tmp_path: Path) -> None:
    save_stage(tiny_components(), tmp_path / "stage")
    settings = load_stage(tmp_path / "stage", stage="amodal_segmentation").settings
    own = {"height": 32, "width": 64, "num_frames": 4, "fit": "letterbox"}
    assert asdict(settings.preset("paper")) == {**RELEASED, **own}
    assert settings.default_preset == "default"


def test_default_is_what_the_checkpoint_says() -> None:
    for presets in ({}, OWN):
        settings = CheckpointSettings("amodal_segmentation", SAMPLING, presets=presets)
        assert settings.preset("default") == settings.preset(None) == SAMPLING
    own = CheckpointSettings("amodal_segmentation", SAMPLING, presets={"default": {"tta": 2}})
    assert own.preset("default") == replace(SAMPLING, beyond=BeyondPaper(tta=2))
    other = CheckpointSettings("amodal_segmentation", SAMPLING, presets=OWN, default_preset="fast")
    assert other.preset(None) == other.preset("fast") != SAMPLING


def test_fast_is_the_checkpoints_or_the_packages_and_never_slower() -> None:
    own = CheckpointSettings("amodal_segmentation", SAMPLING, presets=OWN)
    assert own.preset("fast") == replace(
        SAMPLING, num_inference_steps=3, guidance_interval=(0.5, 5.0), beyond=BeyondPaper(tta=2)
    )
    many = CheckpointSettings("amodal_segmentation").preset("fast")
    assert many.num_inference_steps < 25
    assert many.guidance_scale == 1.0
    few = CheckpointSettings("amodal_segmentation", SamplingConfig(num_inference_steps=1))
    assert few.preset("fast").num_inference_steps == 1


def test_presets_order_by_cost_where_the_checkpoint_says_nothing() -> None:
    settings = released_settings("amodal_segmentation")
    rows = [
        found.network_passes * (1 + (found.guidance_scale > 1)) for found in (settings.preset(name) for name in PRESETS)
    ]
    assert rows == sorted(set(rows))


def test_an_unknown_preset_is_named() -> None:
    with pytest.raises(InputError, match="preset: expected one of fast, default, paper, got 'slow'"):
        CheckpointSettings("amodal_segmentation").preset("slow")  # type: ignore[arg-type]


def test_a_folder_of_12_channels_that_says_nothing_has_the_fallback_presets(tmp_path: Path) -> None:
    save_stage(tiny_components(), tmp_path / "stage")
    for name in (SETTINGS_FILE, DIGESTS):
        (tmp_path / "stage" / name).unlink()
    settings = load_stage(tmp_path / "stage", stage="amodal_segmentation").settings
    assert settings.sampling == SamplingConfig()
    assert settings.presets == FEW_STEPS


def test_a_converted_checkpoint_is_sampled_as_before(tmp_path: Path) -> None:
    save_stage(tiny_components(), tmp_path / "stage")
    for name in (SETTINGS_FILE, DIGESTS):
        (tmp_path / "stage" / name).unlink()
    before = stage_settings(tmp_path / "stage", "content_completion")
    convert(tmp_path / "stage", tmp_path / "model", stage="content_completion")
    after = read_settings(tmp_path / "model" / "content_completion")
    assert after.stage == "content_completion"
    for name in (None, *PRESETS):
        assert after.preset(name) == before.preset(name)
