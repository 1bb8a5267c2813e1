"""`checkpoint.json`: format 1 means what it meant in version 0.1, format 2 comes back as written."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from amodal_diffusion.basics import InputError
from amodal_diffusion.config import MASK_FILTERS, BeyondPaper, SamplingConfig
from amodal_diffusion.models.checkpoint import (
    PRESETS,
    SETTINGS_FILE,
    CheckpointSettings,
    read_settings,
    released_settings,
    write_settings,
)
from amodal_diffusion.models.hub import load_stage
from amodal_diffusion.models.saving import save_stage
from tests.factories import SAMPLING, tiny_components

PAPERS_FIELDS_1: dict[str, Any] = {
    "num_inference_steps": 10,
    "guidance_scale": 2.0,
    "noise_aug_strength": 0.01,
    "height": 128,
    "width": 256,
    "num_frames": 14,
    "fps": 6,
    "motion_bucket_id": 100,
    "decode_chunk_size": 4,
    "zoom": None,
    "mask_threshold": 0.7,
}
PAPERS_FIELDS = SamplingConfig(
    num_inference_steps=10, guidance_scale=2.0, noise_aug_strength=0.01, height=128, width=256, num_frames=14, fps=6,
    motion_bucket_id=100, decode_chunk_size=4, mask_threshold=0.7, fit="letterbox", resample="pil",
    conditioning="corrected", samples=1, beyond=BeyondPaper(mask_filters=MASK_FILTERS),
)  # fmt: skip
EVERY_FIELD_1: dict[str, Any] = {
    **PAPERS_FIELDS_1,
    "zoom": 3.0,
    "mask_threshold": 0.05,
    "visible_weight": 0.1,
    "other_frames": True,
    "other_frames_weight": 0.0,
    "copies": True,
    "painted_share": 1.0,
    "solver": "heun",
    "guidance_interval": [0.5, 20.0],
    "sigma_min": 0.01,
    "sigma_max": 90.0,
    "views": 2,
}
EVERY_FIELD = replace(
    PAPERS_FIELDS, fit="crop", mask_threshold=0.05, scheduler="heun", guidance_interval=(0.5, 20.0), sigma_min=0.01,
    sigma_max=90.0,
    beyond=BeyondPaper(
        crop_scale=3.0, expected_iou_weight=0.1, temporal_prior=True, color_propagation=True,
        mask_filters=MASK_FILTERS, skip_unoccluded=False, tta=2,
    ),
)  # fmt: skip


def _write(folder: Path, **values: Any) -> Path:
    (folder / SETTINGS_FILE).write_text(json.dumps(values), encoding="utf-8")
    return folder


@pytest.mark.parametrize(
    ("sampling", "expected"),
    [
        ({}, SamplingConfig(beyond=BeyondPaper(mask_filters=MASK_FILTERS))),
        (PAPERS_FIELDS_1, PAPERS_FIELDS),
        (EVERY_FIELD_1, EVERY_FIELD),
        ({**EVERY_FIELD_1, "zoom": None}, replace(EVERY_FIELD, fit="letterbox", beyond=replace(
            EVERY_FIELD.beyond, crop_scale=2.0))),
    ],
    ids=["nothing", "the paper's", "every field", "letterboxed"],
)  # fmt: skip
def test_format_1_means_what_it_meant(sampling: dict[str, Any], expected: SamplingConfig, tmp_path: Path) -> None:
    settings = read_settings(
        _write(tmp_path, format=1, stage="content_completion", sampling=sampling, depth_model="org/depth", presets={})
    )
    assert settings == CheckpointSettings("content_completion", expected, depth_model="org/depth")
    assert settings.preset(None) == settings.preset("default") == expected


def test_format_1_without_presets_and_depth_is_read(tmp_path: Path) -> None:
    settings = read_settings(_write(tmp_path, format=1, stage="amodal_segmentation", sampling=PAPERS_FIELDS_1))
    assert settings == CheckpointSettings("amodal_segmentation", PAPERS_FIELDS)


def test_presets_of_format_1_change_what_they_changed(tmp_path: Path) -> None:
    presets = {
        "fast": {"views": 1, "solver": "dpmpp", "copies": False, "zoom": None},
        "default": {"visible_weight": None, "other_frames_weight": 0.0, "zoom": 2.5},
    }
    settings = read_settings(
        _write(tmp_path, format=1, stage="amodal_segmentation", sampling=EVERY_FIELD_1, presets=presets)
    )
    fast = replace(EVERY_FIELD.beyond, tta=1, color_propagation=False)
    assert settings.preset("fast") == replace(EVERY_FIELD, scheduler="dpmpp", fit="letterbox", beyond=fast)
    default = replace(EVERY_FIELD.beyond, expected_iou_weight=None, crop_scale=2.5)
    assert settings.preset("default") == replace(EVERY_FIELD, beyond=default)
    letterboxed = read_settings(
        _write(tmp_path, format=1, stage="amodal_segmentation", sampling=PAPERS_FIELDS_1, presets=presets)
    )
    assert letterboxed.preset("default").fit == "crop"


@pytest.mark.parametrize(("name", "value", "neutral"), [("other_frames_weight", 0.4, 0.0), ("painted_share", 0.0, 1.0)])
def test_a_removed_field_that_means_something_is_refused(
    name: str, value: float, neutral: float, tmp_path: Path
) -> None:
    message = (
        rf"checkpoint\.json: {name}: expected {neutral}, as this field was removed, got {value}; version 0\.1 reads it"
    )
    for values in ({"sampling": {name: value}}, {"presets": {"fast": {name: value}}}):
        with pytest.raises(InputError, match=message):
            read_settings(_write(tmp_path, format=1, stage="amodal_segmentation", **values))


def test_a_checkpoint_carries_its_presets(tmp_path: Path) -> None:
    sampling = replace(SAMPLING, scheduler="dpmpp", guidance_interval=(0.2, 20.0), sigma_max=80.0)
    presets = {"fast": {"num_inference_steps": 3, "guidance_interval": [0.5, 5.0], "tta": 2}}
    settings = CheckpointSettings("amodal_segmentation", sampling, presets=presets, default_preset="fast")
    save_stage(replace(tiny_components(), settings=settings), tmp_path / "stage")
    assert load_stage(tmp_path / "stage", stage="amodal_segmentation").settings == settings


@pytest.mark.parametrize(
    "settings",
    [
        CheckpointSettings("content_completion", EVERY_FIELD, "org/depth", {"fast": {"tta": 1}}, "fast"),
        CheckpointSettings("amodal_segmentation", PAPERS_FIELDS),
        released_settings("amodal_segmentation"),
    ],
    ids=["every field", "the paper's", "released"],
)
def test_format_2_comes_back_as_written(settings: CheckpointSettings, tmp_path: Path) -> None:
    write_settings(settings, tmp_path)
    assert json.loads((tmp_path / SETTINGS_FILE).read_text())["format"] == 2
    again = read_settings(tmp_path)
    assert replace(again, presets={}) == replace(settings, presets={})
    for name in (None, *PRESETS):
        assert again.preset(name) == settings.preset(name)
    write_settings(again, tmp_path)
    assert read_settings(tmp_path) == again


BOTH: list[tuple[str, str, object, str]] = [
    # name in format 1, name now, value, message
    ("solver", "scheduler", "rk4", "scheduler: expected one of euler, heun, dpmpp, got 'rk4'"),
    ("guidance_interval", "guidance_interval", [5, 1], "guidance_interval: expected two sigmas, the lower first"),
    ("guidance_interval", "guidance_interval", 3, "guidance_interval: expected two sigmas"),
    ("sigma_max", "sigma_max", 0, "sigma_max: expected a number above 0, got 0"),
    ("sigma_min", "sigma_min", "low", "sigma_min: expected a number above 0, got 'low'"),
    ("mask_threshold", "mask_threshold", 1.5, "mask_threshold: expected at least 0 and less than 1, got 1.5"),
    ("mask_threshold", "mask_threshold", "low", "mask_threshold: expected at least 0 and less than 1, got 'low'"),
    ("height", "height", "64", "height: expected an integer, got '64'"),
    ("fps", "fps", "fast", "fps: expected a number, at least 0, got 'fast'"),
    ("motion_bucket_id", "motion_bucket_id", -1, "motion_bucket_id: expected a number, at least 0, got -1"),
    ("views", "beyond.tta", 3, "tta: expected 1, 2 or 4 passes, got 3"),
    ("visible_weight", "beyond.expected_iou_weight", -0.5, "expected_iou_weight: expected a number, at least 0, got"),
    ("visible_weight", "beyond.expected_iou_weight", 0.2, "mask_threshold: expected above 0 and at most 0.5 beside"),
    ("copies", "beyond.color_propagation", "off", "color_propagation: expected true or false, got 'off'"),
    ("zoom", "beyond.crop_scale", 0, "crop_scale: expected a number above 0, got 0"),
    ("stepz", "stepz", 1, "unknown keys stepz; known are "),
    ("stepz", "beyond.stepz", 1, "unknown keys stepz; known are "),
]


@pytest.mark.parametrize(("old", "new", "value", "message"), BOTH)
def test_a_mistake_in_sampling_is_one_line(old: str, new: str, value: object, message: str, tmp_path: Path) -> None:
    papers: dict[str, Any] = {"mask_threshold": 200 / 255}
    _write(tmp_path, format=1, stage="amodal_segmentation", sampling={**papers, old: value})
    with pytest.raises(InputError) as error:
        read_settings(tmp_path)
    assert str(error.value).startswith(f"{tmp_path / SETTINGS_FILE}: {message}")
    group, _, name = new.rpartition(".")
    sampling = {**papers, group: {name: value}} if group else {**papers, name: value}
    _write(tmp_path, format=2, stage="amodal_segmentation", sampling=sampling)
    with pytest.raises(InputError) as error:
        read_settings(tmp_path)
    assert str(error.value).startswith(f"{tmp_path / SETTINGS_FILE}: {message}")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": 3}, "format 3, this version of the package reads 1 and 2; upgrade it"),
        ({"format": None}, "format None, this version"),
        ({"stage": "third"}, "stage: expected one of amodal_segmentation, content_completion, got 'third'"),
        ({"color": 1}, "unknown keys color; known are "),
        ({"sampling": 3}, "sampling: expected an object, got int"),
        ({"sampling": {"beyond": []}}, "sampling.beyond: expected an object, got list"),
        ({"sampling": {"fit": "zoom"}}, "fit: expected one of stretch, letterbox, crop, got 'zoom'"),
        ({"sampling": {"resample": "area"}}, "resample: expected one of pil, cv2, got 'area'"),
        ({"sampling": {"conditioning": "new"}}, "conditioning: expected one of corrected, released, got 'new'"),
        ({"sampling": {"sigma_min": 3, "sigma_max": 2}}, "sigma_min: expected less than sigma_max, 2, got 3"),
        ({"sampling": {"beyond": {"mask_filters": ["behind"]}}}, "mask_filters: expected some of depth, components,"),
        ({"presets": []}, "presets: expected an object, got list"),
        ({"presets": {"paper": {}}}, "presets: paper: a checkpoint's own are fast, default"),
        ({"presets": {"fast": {"step": 3}}}, "presets.fast: step: no setting of sampling has this name; did you mean"),
        ({"presets": {"fast": {"tta": 5}}}, "presets.fast: tta: expected 1, 2 or 4 passes, got 5"),
        ({"presets": {"fast": 3}}, "presets.fast: expected an object, got int"),
        ({"presets": {"fast": {"expected_iou_weight": 0.2}}}, "presets.fast: mask_threshold: expected above 0"),
        ({"default_preset": "slow"}, "default_preset: expected one of fast, default, paper, got 'slow'"),
    ],
)
def test_a_mistake_in_the_file_is_one_line(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    _write(tmp_path, **{"format": 2, "stage": "amodal_segmentation", "sampling": asdict(SamplingConfig()), **changes})
    with pytest.raises(InputError) as error:
        read_settings(tmp_path)
    assert str(error.value).startswith(f"{tmp_path / SETTINGS_FILE}: {message}")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("presets", "message"),
    [
        ({"fast": {"step": 3}}, "presets.fast: step: no setting of sampling has this name"),
        ({"fast": {"views": 5}}, "presets.fast: tta: expected 1, 2 or 4 passes, got 5"),
        ({"fast": 3}, "presets.fast: expected an object, got int"),
        ([], "presets: expected an object, got list"),
    ],
)
def test_a_mistake_in_presets_of_format_1_is_named(presets: Any, message: str, tmp_path: Path) -> None:
    _write(tmp_path, format=1, stage="amodal_segmentation", sampling=PAPERS_FIELDS_1, presets=presets)
    with pytest.raises(InputError) as error:
        read_settings(tmp_path)
    assert str(error.value).startswith(f"{tmp_path / SETTINGS_FILE}: {message}")
