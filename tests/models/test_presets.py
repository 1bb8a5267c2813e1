"""Presets by name, and what a checkpoint says of its own."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from amodal_diffusion.models.checkpoint import (
    PRESETS,
    SETTINGS_FILE,
    UNTOLD_PRESETS,
    CheckpointSettings,
    SamplingDefaults,
    apply_preset,
    read_settings,
    without_untold,
    write_settings,
)
from amodal_diffusion.models.hub import load_stage
from amodal_diffusion.models.saving import convert, save_stage
from amodal_diffusion.types import InputError
from tests.factories import SAMPLING, tiny_components

OWN: dict[str, Any] = {"fast": {"num_inference_steps": 3, "guidance_interval": [0.5, 5.0], "views": 2}}


def test_the_papers_way_is_the_same_for_any_checkpoint() -> None:
    odd = SamplingDefaults(
        num_inference_steps=3, guidance_scale=4.0, noise_aug_strength=0.0, height=64, width=64, num_frames=8, zoom=2.0,
        mask_threshold=0.3, solver="heun", guidance_interval=(1.0, 2.0), sigma_min=0.1, sigma_max=50.0, views=4,
    )  # fmt: skip
    kept = {"height": 64, "width": 64, "num_frames": 8, "zoom": 2.0, "mask_threshold": 0.3}
    paper = SamplingDefaults(solver="euler", **kept)  # type: ignore[arg-type]
    for presets in ({}, OWN, UNTOLD_PRESETS):
        assert apply_preset("paper", odd, presets) == paper


def test_default_is_what_the_checkpoint_says() -> None:
    assert apply_preset("default", SAMPLING, {}) == SAMPLING
    assert apply_preset("default", SAMPLING, OWN) == SAMPLING
    assert apply_preset("default", SAMPLING, {"default": {"views": 2}}) == replace(SAMPLING, views=2)


def test_fast_is_the_checkpoints_or_the_packages_and_never_slower() -> None:
    assert apply_preset("fast", SAMPLING, OWN) == replace(
        SAMPLING, num_inference_steps=3, guidance_interval=(0.5, 5.0), views=2
    )
    many = apply_preset("fast", SamplingDefaults(), {})
    assert many.num_inference_steps < 25
    assert many.guidance_scale == 1.0
    few = SamplingDefaults(num_inference_steps=1)
    assert apply_preset("fast", few, {}).num_inference_steps == 1


def test_presets_order_by_cost_where_the_checkpoint_says_nothing() -> None:
    rows = [
        found.network_passes * (1 + (found.guidance_scale > 1))
        for found in (apply_preset(name, SamplingDefaults(), UNTOLD_PRESETS) for name in PRESETS)
    ]
    assert rows == sorted(set(rows))


def test_an_unknown_preset_is_named() -> None:
    with pytest.raises(InputError, match="preset: expected one of fast, default, paper, got 'slow'"):
        apply_preset("slow", SAMPLING, {})  # type: ignore[arg-type]


def test_a_checkpoint_carries_its_presets(tmp_path: Path) -> None:
    sampling = replace(SAMPLING, solver="dpmpp", guidance_interval=(0.2, 20.0), sigma_max=80.0)
    settings = CheckpointSettings("amodal_segmentation", sampling, presets=OWN)
    save_stage(replace(tiny_components(), settings=settings), tmp_path / "stage")
    assert load_stage(tmp_path / "stage", stage="amodal_segmentation").settings == settings


def test_files_of_earlier_versions_still_load(tmp_path: Path) -> None:
    write_settings(CheckpointSettings("amodal_segmentation", SAMPLING), tmp_path)
    values = json.loads((tmp_path / SETTINGS_FILE).read_text())
    del values["presets"]
    for name in ("solver", "guidance_interval", "sigma_min", "sigma_max", "views"):
        del values["sampling"][name]
    (tmp_path / SETTINGS_FILE).write_text(json.dumps(values))
    assert read_settings(tmp_path) == CheckpointSettings("amodal_segmentation", SAMPLING)


def test_a_folder_that_says_nothing_has_the_packages_presets(tmp_path: Path) -> None:
    save_stage(tiny_components(), tmp_path / "stage")
    (tmp_path / "stage" / SETTINGS_FILE).unlink()
    settings = load_stage(tmp_path / "stage", stage="amodal_segmentation").settings
    assert settings.sampling == SamplingDefaults()
    assert settings.presets == UNTOLD_PRESETS


def test_the_packages_presets_are_told_from_the_checkpoints_own(tmp_path: Path) -> None:
    save_stage(tiny_components(), tmp_path / "stage")
    (tmp_path / "stage" / SETTINGS_FILE).unlink()
    convert(tmp_path / "stage", tmp_path / "model", stage="amodal_segmentation")
    written = read_settings(tmp_path / "model" / "amodal_segmentation").presets
    assert written.keys() == UNTOLD_PRESETS.keys()
    assert without_untold(written) == without_untold(UNTOLD_PRESETS) == {}
    changed = {**written, "default": {**written["default"], "num_inference_steps": 9}}
    assert without_untold(changed) == changed
    assert without_untold(OWN) == OWN


@pytest.mark.parametrize(
    ("sampling", "presets", "message"),
    [
        ({"solver": "rk4"}, {}, "solver: expected one of euler, heun, dpmpp, got 'rk4'"),
        ({"guidance_interval": [5, 1]}, {}, "guidance_interval: expected two sigmas, the lower first"),
        ({"guidance_interval": 3}, {}, "guidance_interval: expected two sigmas"),
        ({"sigma_max": 0}, {}, "sigma_max: expected a number above 0, got 0"),
        ({"sigma_min": "low"}, {}, "sigma_min: expected a number above 0, got 'low'"),
        ({"sigma_min": 3, "sigma_max": 2}, {}, "sigma_min: expected less than sigma_max, 2, got 3"),
        ({"views": 3}, {}, "views: expected one of 1, 2, 4, got 3"),
        ({"other_frames": True, "other_frames_weight": -1}, {}, "other_frames_weight: expected at least 0, got -1"),
        ({"visible_weight": -0.5}, {}, "visible_weight: expected at least 0, got -0.5"),
        (
            {"visible_weight": 0.2, "mask_threshold": 0.6},
            {},
            "mask_threshold: expected above 0 and at most 0.5 beside visible_weight, ",
        ),
        ({"visible_weight": 0.2, "mask_threshold": 0}, {}, "mask_threshold: expected above 0 and at most 0.5 beside"),
        ({"mask_threshold": 1.5}, {}, "mask_threshold: expected at least 0 and less than 1, got 1.5"),
        ({"mask_threshold": "low"}, {}, "mask_threshold: expected at least 0 and less than 1, got 'low'"),
        ({"mask_threshold": 0.6}, {"fast": {"visible_weight": 0.2}}, "presets.fast: mask_threshold: expected above 0"),
        ({"other_frames_weight": 1.0}, {}, "other_frames_weight: expected other_frames beside it"),
        ({"painted_share": 1.5}, {}, "painted_share: expected 0 to 1, got 1.5"),
        ({}, {"paper": {}}, "presets: paper: a checkpoint's own are fast, default"),
        ({}, {"fast": {"step": 3}}, "presets.fast: unknown keys step; known are "),
        ({}, {"fast": {"views": 5}}, "presets.fast: views: expected one of"),
        ({}, {"fast": 3}, "presets.fast: expected an object, got int"),
        ({}, [], "presets: expected an object, got list"),
    ],
)
def test_a_mistake_in_the_file_is_named(sampling: dict[str, Any], presets: Any, message: str, tmp_path: Path) -> None:
    values = {
        "format": 1, "stage": "amodal_segmentation", "sampling": {**asdict(SAMPLING), **sampling}, "presets": presets
    }  # fmt: skip
    (tmp_path / SETTINGS_FILE).write_text(json.dumps(values))
    with pytest.raises(InputError) as error:
        read_settings(tmp_path)
    assert str(error.value).startswith(f"{tmp_path / SETTINGS_FILE}: {message}")
