"""AmodalCompleter: what it promises about masks, visible pixels, settings, streams and memory."""

from __future__ import annotations

import gc
import json
import weakref
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from amodal_diffusion.basics import STAGES, InputError, Stage
from amodal_diffusion.config import MASK_FILTERS, Conditioning, Preset, SamplingConfig
from amodal_diffusion.models.checkpoint import FEW_STEPS, PAPER, SETTINGS_FILE, CheckpointSettings, released_settings
from amodal_diffusion.models.hub import StageComponents
from amodal_diffusion.models.saving import convert
from amodal_diffusion.pipelines import amodal_segmentation, content_completion
from amodal_diffusion.pipelines.amodal_segmentation import AmodalSegmentationPipeline
from amodal_diffusion.pipelines.completer import AmodalCompleter, FrameInput, ObjectStream
from amodal_diffusion.pipelines.content_completion import ContentCompletionPipeline
from amodal_diffusion.pipelines.preprocessing import clip_frames
from amodal_diffusion.types import AmodalResult, VideoClip
from tests.factories import SAMPLING, moving_square, tiny_completer_folder, tiny_components

STAGE: Stage = "amodal_segmentation"
SMALL = {"height": 8, "width": 16, "num_inference_steps": 1}  # where what is painted does not matter


def assert_same_bytes(one: AmodalResult, other: AmodalResult) -> None:
    for name in ("amodal_mask", "amodal_rgb", "rgba", "samples"):
        first, second = getattr(one, name), getattr(other, name)
        assert (first is None) == (second is None)
        assert first is None or first.tobytes() == second.tobytes()


@pytest.mark.parametrize(("frames", "height", "width"), [(1, 24, 40), (3, 37, 53), (4, 32, 64), (11, 24, 40)])
def test_results_have_the_clips_size_and_keep_what_is_visible(
    completer: AmodalCompleter, frames: int, height: int, width: int
) -> None:
    clip = moving_square(frames, height, width)
    result = completer(clip)
    assert result.amodal_rgb is not None
    assert result.rgba is not None
    assert result.amodal_mask.shape == clip.modal_mask.shape
    assert not (clip.modal_mask & ~result.amodal_mask).any()
    for layer in (result.amodal_rgb, result.rgba[..., :3]):
        assert np.array_equal(layer[clip.modal_mask], clip.rgb[clip.modal_mask])
    assert np.array_equal(result.rgba[..., 3] == 255, result.amodal_mask)
    assert (result.amodal_rgb[~result.amodal_mask] == 255).all()


def test_the_seed_decides(completer: AmodalCompleter) -> None:
    clip = moving_square()
    config = completer.config(**SMALL)
    first, again, other = (completer(clip, config, seed=seed).amodal_rgb for seed in (0, 0, 1))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


@pytest.mark.parametrize("preset", ["default", "paper"])
def test_scaling_on_a_device_of_its_own_changes_no_byte(
    completer: AmodalCompleter, preset: Preset, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A CPU by another name takes the path of a GPU."""
    clip = moving_square()
    config = completer.config(preset=preset, fit="stretch" if preset == "paper" else None, **SMALL)
    expected = completer(clip, config)
    for stage in (amodal_segmentation, content_completion):
        monkeypatch.setattr(stage, "frame_device", lambda _: torch.device("cpu", 0))
    assert_same_bytes(completer(clip, config), expected)


def test_a_stream_gives_the_same_as_the_whole_clip_and_reads_little_ahead(completer: AmodalCompleter) -> None:
    clip, config = moving_square(21), completer.config(**SMALL)
    read: list[int] = []

    def frames() -> Iterator[FrameInput]:
        for index in range(clip.num_frames):
            read.append(index)
            yield FrameInput(clip.rgb[index], clip.modal_mask[index])

    results, ahead = [], []
    for result in completer.stream(frames(), config):
        results.append(result)
        ahead.append(len(read) - len(results))
    whole = completer(clip, config)
    assert np.array_equal(np.concatenate([result.rgba for result in results]), whole.rgba)
    assert max(ahead) <= 3 * 4
    assert list(completer.stream([])) == []


def alive(references: list[weakref.ref[Any]]) -> int:
    """How many of the things that are referred to anything still holds."""
    return sum(reference() is not None for reference in references)


@pytest.mark.parametrize(("count", "options"), [(40, {}), (40, {"color_propagation": True})])
def test_a_long_stream_holds_a_few_windows_of_frames(
    completer: AmodalCompleter, count: int, options: dict[str, bool]
) -> None:
    """Frames and their pictures are let go as soon as their results are out."""
    frames_given: list[weakref.ref[Any]] = []
    pictures: list[weakref.ref[Any]] = []
    clip = moving_square(10, 8, 40)

    def frames() -> Iterator[FrameInput]:
        for index in range(count):
            frame = FrameInput(clip.rgb[index % 10].copy(), clip.modal_mask[index % 10].copy())
            frames_given.append(weakref.ref(frame))
            pictures.append(weakref.ref(frame.rgb))
            yield frame
            del frame

    held = [
        max(alive(frames_given), alive(pictures))
        for _ in completer.stream(frames(), completer.config(**SMALL, **options))
    ]
    assert len(held) == len(pictures) == count
    assert max(held) <= 4 * 4  # two windows of 4 in each stage
    gc.collect()
    assert alive(pictures) == 0


def test_several_objects_of_a_long_stream_hold_a_few_windows_each(completer: AmodalCompleter) -> None:
    pixels: list[weakref.ref[Any]] = []
    clip = moving_square(10, 8, 40)

    def frames() -> Iterator[list[FrameInput]]:
        for index in range(24):
            masks = [clip.modal_mask[index % 10].copy() for _ in range(3)]
            pixels.extend(weakref.ref(mask) for mask in masks)
            yield [FrameInput(clip.rgb[index % 10], mask) for mask in masks]

    held = [
        alive(pixels)
        for _ in completer.stream_objects(frames(), [ObjectStream() for _ in range(3)], completer.config(**SMALL))
    ]
    assert len(held) == 3 * 24
    assert max(held) <= 3 * 4 * 4


def test_given_amodal_masks_skip_stage_one(completer: AmodalCompleter, content_only: AmodalCompleter) -> None:
    clip = moving_square()
    amodal = clip.modal_mask.copy()
    amodal[:, 2:20, 2:30] = True
    result = content_only(clip, amodal_mask=amodal)
    assert np.array_equal(result.amodal_mask, amodal | clip.modal_mask)
    assert np.array_equal(completer(clip, amodal_mask=amodal).rgba, result.rgba)
    with pytest.raises(InputError, match="every frame needs its amodal mask"):
        content_only(clip)


def test_masks_only(masks_only: AmodalCompleter) -> None:
    result = masks_only(moving_square())
    assert result.amodal_rgb is None
    assert result.rgba is None
    entry = ObjectStream()
    list(masks_only.stream_objects(([frame] for frame in clip_frames(moving_square(2))), [entry]))
    assert entry.statistics.seconds["amodal_segmentation"] > 0
    assert entry.statistics.seconds["content_completion"] < entry.statistics.seconds["amodal_segmentation"]
    config = masks_only.config()
    assert config.content_completion is None
    assert list(config.to_json()) == ["amodal_segmentation"]
    with pytest.raises(InputError, match="stages: expected at least one"):
        AmodalCompleter(None, None)


def test_a_model_is_loaded_by_stages(folder: Path, completer: AmodalCompleter) -> None:
    both = AmodalCompleter.from_pretrained(folder, device="cpu")
    assert both.fingerprints() == completer.fingerprints()
    assert (both.device, both.dtype) == ("cpu", "float32")
    masks = AmodalCompleter.from_pretrained(folder, stages=(STAGE,), device="cpu")
    assert list(masks.fingerprints()) == [STAGE]
    split = AmodalCompleter.from_pretrained(folder / STAGE, content_model=folder, device="cpu")
    assert split.fingerprints() == both.fingerprints()


def test_depth_changes_the_masks_but_not_its_scale(masks_only: AmodalCompleter) -> None:
    clip = moving_square()
    depth = np.linspace(0, 1, clip.modal_mask.size, dtype=np.float32).reshape(clip.modal_mask.shape)
    plain = masks_only(clip).amodal_mask
    guided = masks_only(clip, depth=depth).amodal_mask
    assert not np.array_equal(plain, guided)
    assert np.array_equal(masks_only(clip, depth=depth * 2 - 1).amodal_mask, guided)
    assert masks_only(clip, depth=np.ones_like(depth)).amodal_mask.shape == plain.shape


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"depth": np.zeros((2, 3, 4), np.float32)}, "depth: expected"),
        ({"depth": np.full((6, 24, 40), np.nan, np.float32)}, "depth: expected finite"),
        ({"amodal_mask": np.arange(6 * 24 * 40).reshape(6, 24, 40) % 3}, "amodal_mask: expected one object"),
        ({"amodal_mask": np.zeros((6, 24, 41), np.bool_)}, "amodal_mask: expected .* to match the clip"),
    ],
)
def test_bad_input_is_named(completer: AmodalCompleter, keywords: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        completer(moving_square(), **keywords)


def test_a_model_with_crops_looks_closely_and_leaves_the_rest_alone(completer: AmodalCompleter) -> None:
    clip = moving_square(5, 48, 96)
    result = completer(clip, completer.config(fit="crop", crop_scale=1.5))
    assert not (clip.modal_mask & ~result.amodal_mask).any()
    assert result.rgba is not None
    assert np.array_equal(result.rgba[..., :3][clip.modal_mask], clip.rgb[clip.modal_mask])
    assert not result.amodal_mask[:, 30:].any()  # the square is far above: a crop does not reach there
    assert not result.amodal_mask[:, :, 60:].any()
    assert (result.amodal_mask & ~clip.modal_mask).any()


def test_frames_of_another_size_are_refused(completer: AmodalCompleter) -> None:
    clip = moving_square(2)
    frames = [FrameInput(clip.rgb[0], clip.modal_mask[0]), FrameInput(clip.rgb[1, :-1], clip.modal_mask[1, :-1])]
    with pytest.raises(InputError, match="frame 1: rgb"):
        list(completer.stream(frames))


def test_clips_are_checked_once() -> None:
    clip = moving_square()
    for change, message in (
        ({"rgb": clip.rgb.astype(np.float32)}, "rgb: expected uint8"),
        ({"modal_mask": clip.modal_mask[1:]}, "modal_mask: expected bool"),
        ({"modal_mask": np.zeros_like(clip.modal_mask)}, "empty in every frame"),
        ({"fps": 0.0}, "fps: expected"),
    ):
        with pytest.raises(InputError, match=message):
            replace(clip, **change)
    assert isinstance(clip, VideoClip)


def test_unknown_device_or_dtype_is_refused(folder: Path) -> None:
    with pytest.raises(InputError, match=r"device: expected auto, cpu, cuda, .* got abacus"):
        AmodalCompleter.from_pretrained(folder, device="abacus")
    with pytest.raises(InputError, match="dtype: expected"):
        AmodalCompleter.from_pretrained(folder, device="cpu", dtype="float7")


def test_devices_and_dtypes_of_torch_are_taken(folder: Path) -> None:
    for dtype in (torch.float32, torch.bfloat16):
        completer = AmodalCompleter.from_pretrained(folder, device=torch.device("cpu"), dtype=dtype)
        assert completer.dtype == str(dtype).removeprefix("torch.")
        assert completer.device == "cpu"
    with pytest.raises(InputError, match=r"dtype: expected auto, .*, got torch.int8"):
        AmodalCompleter.from_pretrained(folder, device="cpu", dtype=torch.int8)


def test_tensors_and_lists_give_what_arrays_give(completer: AmodalCompleter) -> None:
    clip = moving_square(3)
    depth = np.linspace(0, 1, clip.modal_mask.size, dtype=np.float32).reshape(clip.modal_mask.shape)
    expected = completer(clip, depth=depth, amodal_mask=clip.modal_mask)
    same = VideoClip(
        torch.from_numpy(clip.rgb).movedim(-1, 1) / 255, torch.from_numpy(clip.modal_mask).float()[:, None]
    )
    found = completer(
        same, depth=torch.from_numpy(depth)[:, None], amodal_mask=list(clip.modal_mask.astype(np.uint8) * 255)
    )
    assert expected.rgba is not None
    assert found.rgba is not None
    np.testing.assert_array_equal(found.rgba, expected.rgba)


def test_mask_filters_are_counted_and_off_by_default(masks_only: AmodalCompleter) -> None:
    clip = moving_square()
    depth = np.zeros(clip.modal_mask.shape, np.float32)
    depth[:, :, :20] = 1.0
    depth[clip.modal_mask] = 0.5

    def complete(**changes: Any) -> tuple[np.ndarray, dict[str, int]]:
        entry = ObjectStream()
        frames = ([frame] for frame in clip_frames(clip, depth))
        results = masks_only.stream_objects(frames, [entry], masks_only.config(num_inference_steps=2, **changes))
        return np.concatenate([result.amodal_mask for _, result in results]), dict(entry.statistics.removed)

    free, nothing = complete()
    assert nothing == dict.fromkeys(MASK_FILTERS, 0)
    kept, removed = complete(mask_filters=("area", "components", "depth"))
    assert (kept <= free).all()
    assert removed["depth"] > 0
    assert sum(removed.values()) == (free & ~kept).sum()
    assert complete(preset="paper")[1] == nothing
    with pytest.raises(InputError, match="mask_filters: expected some of depth, components, area, got often"):
        complete(mask_filters=("often",))


def test_presets_choose_and_choices_beat_them(completer: AmodalCompleter) -> None:
    default, paper = completer.config().to_json(), completer.config(preset="paper").to_json()
    assert completer.config() == completer.config(preset="default")
    for stage in STAGES:
        assert (paper[stage]["num_inference_steps"], paper[stage]["guidance_scale"]) == (25, 1.5)
        assert paper[stage]["conditioning"] == "released"
        assert paper[stage]["height"] == default[stage]["height"]
    chosen = completer.config(preset="paper", num_inference_steps=3, guidance_scale=1.0, scheduler="heun").to_json()
    assert {(now["num_inference_steps"], now["guidance_scale"], now["scheduler"]) for now in chosen.values()} == {
        (3, 1.0, "heun")
    }
    assert completer.config(conditioning="released") == completer.config(preset="paper")
    with pytest.raises(InputError, match="preset: expected one of fast, default, paper"):
        completer.config(preset="best")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("guidance", "guidance_scale"),
        ("num_inference_step", "num_inference_steps"),
        ("mask_filter", "mask_filters"),
        ("crop_scal", "crop_scale"),
        ("color_propagate", "color_propagation"),
        ("hight", "height"),
    ],
)
def test_unknown_settings_suggest_the_nearest(completer: AmodalCompleter, name: str, nearest: str) -> None:
    with pytest.raises(InputError, match=f"^{name}: no setting of sampling has this name; did you mean {nearest}\\?$"):
        completer.config(**{name: 2})


def test_a_setting_of_none_is_left_as_the_preset_has_it(completer: AmodalCompleter) -> None:
    nothing = dict.fromkeys(("guidance_scale", "height", "mask_filters", "tta", "scheduler", "conditioning"))
    for preset in (None, "fast", "paper"):
        assert completer.config(preset=preset, **nothing) == completer.config(preset=preset)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="did you mean"):
        completer.config(guidence_scale=1)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"height": 31}, "height: expected a multiple of 2, got 31"),
        ({"width": 0}, "width: expected at least 1"),
        ({"tta": 3}, "tta: expected 1, 2 or 4"),
        ({"fit": "bend"}, "fit: expected one of stretch, letterbox, crop"),
        ({"conditioning": "both"}, "conditioning: expected one of corrected, released"),
    ],
)
def test_bad_settings_are_named_before_any_work(
    completer: AmodalCompleter, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        completer.config(**changes)


def test_a_preset_reaches_the_network(completer: AmodalCompleter) -> None:
    for arguments, expected in (({"preset": "fast"}, 2), ({"preset": "paper", "num_inference_steps": 3}, 3)):
        calls: dict[str, int] = dict.fromkeys(STAGES, 0)

        def count(stage: str, counted: dict[str, int] = calls) -> None:
            counted[stage] += 1

        with completer.watched(count):
            completer(moving_square(3), completer.config(height=8, width=16, **arguments))  # type: ignore[arg-type]
        assert calls == dict.fromkeys(STAGES, expected)


def test_what_watches_can_end_the_work(completer: AmodalCompleter) -> None:
    def stop(_: Stage) -> None:
        raise KeyboardInterrupt

    with completer.watched(stop), pytest.raises(KeyboardInterrupt):
        completer(moving_square(2))


OLD_CALLS: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({}, {}),
    ({"preset": "fast", "solver": "heun"}, {"preset": "fast", "scheduler": "heun"}),
    (
        {"guards": ["growth", "behind"], "samples": 2, "guidance_scale": 1.5},
        {"mask_filters": ("depth", "area"), "samples": 2, "guidance_scale": 1.5},
    ),
    ({"guards": ()}, {"mask_filters": ()}),
    ({"copies": True, "spans": "auto"}, {"color_propagation": True, "skip_unoccluded": True}),
]


@pytest.mark.parametrize(("old", "new"), OLD_CALLS)
def test_the_deprecated_call_gives_the_same_bytes(
    completer: AmodalCompleter, old: dict[str, Any], new: dict[str, Any]
) -> None:
    clip = moving_square(5)
    modal = clip.modal_mask.copy()
    modal[2:, :, 10:13] = False
    clip = replace(clip, modal_mask=modal)
    depth = np.where(modal, np.float32(0.5), np.random.default_rng(0).random(modal.shape, dtype=np.float32))
    with pytest.warns(DeprecationWarning, match=r"call completer\(clip, completer\.config"):
        before = completer.complete(clip, depth=depth, seed=4, **{**SMALL, **old})
    assert_same_bytes(before, completer(clip, completer.config(**{**SMALL, **new}), depth=depth, seed=4))


def test_the_deprecated_call_takes_amodal_masks(content_only: AmodalCompleter) -> None:
    clip = moving_square(3)
    amodal = np.roll(clip.modal_mask, 4, axis=2)
    with pytest.warns(DeprecationWarning, match="deprecated"):
        before = content_only.complete(clip, amodal_mask=amodal)
    assert_same_bytes(before, content_only(clip, amodal_mask=amodal))


def chosen(folder: Path, conditioning: Conditioning | None = None) -> SamplingConfig:
    """How stage 1 of a checkpoint is sampled."""
    loaded = AmodalCompleter.from_pretrained(folder, stages=(STAGE,), device="cpu")
    config = loaded.config(conditioning=conditioning).amodal_segmentation
    assert config is not None
    return config


@pytest.fixture
def silent(tmp_path: Path) -> Path:
    """A folder without `checkpoint.json`, as the released checkpoints are."""
    folder = tiny_completer_folder(tmp_path / "model") / STAGE
    (folder / SETTINGS_FILE).unlink()
    return folder


def test_a_checkpoint_that_says_nothing_has_presets_and_the_papers_with_released(silent: Path, tmp_path: Path) -> None:
    convert(silent, tmp_path / "converted", stage=STAGE)
    for folder in (silent, tmp_path / "converted"):
        assert chosen(folder) == chosen(folder, "corrected") == SamplingConfig().changed(FEW_STEPS["default"])
        paper = chosen(folder, "released")
        assert paper == SamplingConfig().changed(PAPER)
        assert (paper.num_inference_steps, paper.guidance_scale) == (25, 1.5)


def test_a_released_checkpoint_is_sampled_as_the_paper_does() -> None:
    settings = released_settings(STAGE)
    parts = replace(tiny_components(), settings=settings)
    completer = AmodalCompleter(AmodalSegmentationPipeline.from_components(parts), None)
    paper = completer.config()
    assert paper.amodal_segmentation == settings.sampling
    assert settings.sampling == SamplingConfig(fit="stretch").changed(PAPER)
    assert completer.config(preset="paper") == completer.config(conditioning="released") == paper
    few = completer.config(preset="default").amodal_segmentation
    assert few == settings.sampling.changed(FEW_STEPS["default"])
    assert few is not None
    assert few.conditioning == "corrected"


def test_a_checkpoints_own_settings_hold(silent: Path, tmp_path: Path, completer: AmodalCompleter) -> None:
    assert completer.config().amodal_segmentation == SAMPLING
    assert completer.config(conditioning="corrected").amodal_segmentation == SAMPLING
    convert(silent, tmp_path / "converted", stage=STAGE)
    path = tmp_path / "converted" / STAGE / SETTINGS_FILE
    values = json.loads(path.read_text())
    told = {"num_inference_steps": 10, "guidance_scale": 1.2, "decode_chunk_size": 4}
    values["sampling"] |= told
    values["presets"] = {}
    path.write_text(json.dumps(values))
    assert chosen(tmp_path / "converted") == SamplingConfig().changed(told)


def test_a_scheduler_that_does_not_fit_is_refused_before_any_work() -> None:
    parts = tiny_components()
    scheduler = type(parts.scheduler).from_config(parts.scheduler.config, use_karras_sigmas=False)
    settings = CheckpointSettings(STAGE, SAMPLING, presets=FEW_STEPS)
    odd: StageComponents = replace(parts, scheduler=scheduler, settings=settings)
    completer = AmodalCompleter(AmodalSegmentationPipeline.from_components(odd), None)
    message = r"^scheduler: expected euler, .* give --scheduler euler, or --preset paper$"
    with pytest.raises(InputError, match=message):
        completer.config()
    paper, euler = completer.config(preset="paper"), completer.config(scheduler="euler")
    assert paper.amodal_segmentation is not None
    assert paper.amodal_segmentation.num_inference_steps == 25
    assert euler.amodal_segmentation is not None
    assert euler.amodal_segmentation.scheduler == "euler"
    content = ContentCompletionPipeline.from_components(tiny_components("content_completion"))
    with pytest.raises(InputError, match=message):  # one stage is enough
        AmodalCompleter(AmodalSegmentationPipeline.from_components(odd), content).config()
