"""AmodalCompleter: what it promises about masks, visible pixels, streams and windows."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch

from amodal_diffusion.data.samples import AmodalSample, closely
from amodal_diffusion.models.checkpoint import read_settings, write_settings
from amodal_diffusion.pipelines import mask_stream
from amodal_diffusion.pipelines.amodal_segmentation import AmodalSegmentationPipeline
from amodal_diffusion.pipelines.completer import AmodalCompleter, FrameInput
from amodal_diffusion.pipelines.postprocessing import Guardian, Guards
from amodal_diffusion.pipelines.streams import StreamSettings
from amodal_diffusion.synthetic.scenes import make_scene
from amodal_diffusion.training.dataset import AmodalSegmentationTask
from amodal_diffusion.types import STAGES, InputError, VideoClip
from tests.factories import moving_square, tiny_completer_folder
from tests.propagation.moving import moving


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_completer_folder(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def completer(folder: Path) -> AmodalCompleter:
    return AmodalCompleter.from_pretrained(folder, device="cpu")


@pytest.mark.parametrize(("frames", "height", "width"), [(1, 24, 40), (3, 37, 53), (4, 32, 64), (11, 24, 40)])
def test_results_have_the_clips_size_and_keep_what_is_visible(
    completer: AmodalCompleter, frames: int, height: int, width: int
) -> None:
    clip = moving_square(frames, height, width)
    result = completer.complete(clip)
    assert result.amodal_rgb is not None
    assert result.rgba is not None
    assert result.amodal_mask.shape == clip.modal_mask.shape
    assert not (clip.modal_mask & ~result.amodal_mask).any()
    for layer in (result.amodal_rgb, result.rgba[..., :3]):
        assert np.array_equal(layer[clip.modal_mask], clip.rgb[clip.modal_mask])
    assert np.array_equal(result.rgba[..., 3] == 255, result.amodal_mask)
    assert (result.amodal_rgb[~result.amodal_mask] == 255).all()


def test_scaling_makes_no_rim_around_what_is_visible(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows, columns = np.mgrid[:70, :150]
    distance = np.hypot(rows - 35.0, columns - 70.0)
    disc = distance < 20.0
    visible = disc & (columns < 75)
    frames = [FrameInput(np.zeros((70, 150, 3), np.uint8), visible) for _ in range(2)]
    pipeline = AmodalSegmentationPipeline.from_pretrained(folder)
    sampling = replace(pipeline.sampling, mask_threshold=0.3)
    settings = StreamSettings(sampling, seed=0)
    for truth in (visible, disc):  # what a perfect network says
        seen = settings.look_at_mask(FrameInput(frames[0].rgb, truth), truth)
        video = seen[0].expand(1, 2, 3, -1, -1)
        monkeypatch.setattr(mask_stream, "sample_window", lambda *_, answer=video, **__: answer)
        result = next(iter(mask_stream.stream_masks(pipeline, frames, settings, Guardian(Guards())))).amodal
        if truth is visible:
            assert np.array_equal(result, visible)
        else:
            assert (result & truth).sum() > 0.97 * truth.sum()
            assert result[distance < 17.0].all()  # nor a gap between the parts


def test_the_network_sees_what_training_shows_it_of_other_frames(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scene = make_scene(3, split="train", frames=4, height=32, width=64)
    clip, depth = VideoClip(scene.rgb, scene.target.modal), scene.depth
    pipeline = AmodalSegmentationPipeline.from_pretrained(folder)
    given: list[torch.Tensor] = []

    def answer(_: object, modal: torch.Tensor, guide: torch.Tensor | None, **__: object) -> torch.Tensor:
        given[:] = [modal, torch.empty(0) if guide is None else guide]
        return torch.full((1, 4, 3, *modal.shape[-2:]), -1.0)

    monkeypatch.setattr(mask_stream, "sample_window", answer)
    for zoom in (None, 2.0):
        pipeline.sampling = replace(pipeline.sampling, other_frames=True, zoom=zoom)
        size = (pipeline.sampling.height, pipeline.sampling.width)
        sample = AmodalSample("clip", clip.modal_mask, scene.target.amodal, depth, clip.rgb, None)
        if zoom is not None:
            sample = closely(sample, height=size[0], width=size[1], zoom=zoom, other_frames=True)
        AmodalCompleter(pipeline, None).complete(clip, depth=depth)
        if zoom is not None:  # whole frames are letterboxed on one way and cut to size on the other
            batch = AmodalSegmentationTask(other_frames=True).prepare(sample)
            torch.testing.assert_close(given[0], batch.modal)
            torch.testing.assert_close(given[1], batch.guide)
        assert ((given[0] > -1) & (given[0] < 0)).any()


def test_what_other_frames_show_counts_in_the_scores_with_depth(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scene = make_scene(3, split="train", frames=4, height=32, width=64)
    clip = VideoClip(scene.rgb, scene.target.modal)
    pipeline = AmodalSegmentationPipeline.from_pretrained(folder)
    nothing = torch.full((1, 4, 3, pipeline.sampling.height, pipeline.sampling.width), -1.0)
    monkeypatch.setattr(mask_stream, "sample_window", lambda *_, **__: nothing)
    for weight, adds in ((0.0, False), (1.0, True)):
        pipeline.sampling = replace(
            pipeline.sampling, other_frames=True, other_frames_weight=weight, mask_threshold=0.3
        )
        completer = AmodalCompleter(pipeline, None)
        masks = {
            with_depth: completer.complete(clip, depth=scene.depth if with_depth else None, guards=Guards()).amodal_mask
            for with_depth in (True, False)
        }
        assert (masks[True] & ~clip.modal_mask).any() == adds
        assert not (masks[False] & ~clip.modal_mask).any()


def test_the_seed_decides(completer: AmodalCompleter) -> None:
    clip = moving_square()
    first, again, other = (completer.complete(clip, seed=seed).amodal_rgb for seed in (0, 0, 1))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_a_stream_gives_the_same_as_the_whole_clip_and_reads_little_ahead(completer: AmodalCompleter) -> None:
    clip = moving_square(21)
    read: list[int] = []

    def frames() -> object:
        for index in range(clip.num_frames):
            read.append(index)
            yield FrameInput(clip.rgb[index], clip.modal_mask[index])

    results, ahead = [], []
    for result in completer.stream(frames()):
        results.append(result)
        ahead.append(len(read) - sum(len(entry.amodal_mask) for entry in results))
    whole = completer.complete(clip)
    assert np.array_equal(np.concatenate([result.rgba for result in results]), whole.rgba)
    assert max(ahead) <= 3 * 4


def test_given_amodal_masks_skip_stage_one(completer: AmodalCompleter, folder: Path) -> None:
    clip = moving_square()
    amodal = clip.modal_mask.copy()
    amodal[:, 2:20, 2:30] = True
    only_content = AmodalCompleter.from_pretrained(folder, stages=("content_completion",), device="cpu")
    result = only_content.complete(clip, amodal_mask=amodal)
    assert np.array_equal(result.amodal_mask, amodal | clip.modal_mask)
    assert np.array_equal(completer.complete(clip, amodal_mask=amodal).rgba, result.rgba)
    with pytest.raises(InputError, match="every frame needs its amodal mask"):
        only_content.complete(clip)


def test_masks_only(folder: Path) -> None:
    only_masks = AmodalCompleter.from_pretrained(folder, stages=("amodal_segmentation",), device="cpu")
    result = only_masks.complete(moving_square())
    assert result.amodal_rgb is None
    assert result.rgba is None
    assert only_masks.seconds["amodal_segmentation"] > 0
    assert only_masks.seconds["content_completion"] == 0


def test_depth_changes_the_masks_but_not_its_scale(completer: AmodalCompleter) -> None:
    clip = moving_square()
    depth = np.linspace(0, 1, clip.modal_mask.size, dtype=np.float32).reshape(clip.modal_mask.shape)
    plain = completer.complete(clip).amodal_mask
    guided = completer.complete(clip, depth=depth).amodal_mask
    assert not np.array_equal(plain, guided)
    assert np.array_equal(completer.complete(clip, depth=depth * 2 - 1).amodal_mask, guided)
    assert completer.complete(clip, depth=np.ones_like(depth)).amodal_mask.shape == plain.shape


def test_windows_see_the_same_noise_where_they_overlap(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    masks = AmodalCompleter.from_pretrained(folder, stages=("amodal_segmentation",), device="cpu")
    noise: list[torch.Tensor] = []
    call = AmodalSegmentationPipeline.__call__

    def spy(self: AmodalSegmentationPipeline, *args: Any, **kwargs: Any) -> Any:
        noise.append(kwargs["latents"])
        return call(self, *args, **kwargs)

    monkeypatch.setattr(AmodalSegmentationPipeline, "__call__", spy)
    masks.complete(moving_square(7))  # windows of 4 that share a frame: 0 to 3, 3 to 6
    first, second = noise
    assert torch.equal(first[:, 3], second[:, 0])
    assert not torch.equal(first[:, 0], second[:, 0])


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"depth": np.zeros((2, 3, 4), np.float32)}, "depth: expected"),
        ({"amodal_mask": np.zeros((6, 24, 40), np.uint8)}, "amodal_mask: expected bool"),
        ({"height": 31}, "height: expected a multiple of 2"),
    ],
)
def test_bad_input_is_named(completer: AmodalCompleter, keywords: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        completer.complete(moving_square(), **keywords)  # type: ignore[arg-type]


def test_a_model_with_zoom_looks_closely_and_leaves_the_rest_alone(tmp_path: Path) -> None:
    model = tiny_completer_folder(tmp_path / "model")
    for stage in STAGES:
        settings = read_settings(model / stage)
        write_settings(replace(settings, sampling=replace(settings.sampling, zoom=1.5)), model / stage)
    clip = moving_square(5, 48, 96)
    result = AmodalCompleter.from_pretrained(model, device="cpu").complete(clip)
    assert not (clip.modal_mask & ~result.amodal_mask).any()
    assert result.rgba is not None
    assert np.array_equal(result.rgba[..., :3][clip.modal_mask], clip.rgb[clip.modal_mask])
    assert not result.amodal_mask[:, 30:].any()  # the square is far above: a close-up does not reach there
    assert not result.amodal_mask[:, :, 60:].any()


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
    with pytest.raises(InputError, match="device abacus"):
        AmodalCompleter.from_pretrained(folder, device="abacus")
    with pytest.raises(InputError, match="dtype: expected"):
        AmodalCompleter.from_pretrained(folder, device="cpu", dtype="float7")


def test_several_answers_and_what_they_amount_to(folder: Path) -> None:
    masks = AmodalCompleter.from_pretrained(folder, stages=("amodal_segmentation",), device="cpu")
    clip = moving_square(7)
    one = masks.complete(clip)
    three = masks.complete(clip, samples=3)
    assert one.samples is None
    assert np.array_equal(one.probability, one.amodal_mask)
    assert three.samples is not None
    assert three.samples.shape == (3, *clip.modal_mask.shape)
    assert np.array_equal(three.samples[0], one.amodal_mask)  # the first is the same however many there are
    assert not np.array_equal(three.samples[1], three.samples[2])
    assert np.array_equal(three.amodal_mask, three.probability > 0.5)
    assert (three.samples >= clip.modal_mask).all()
    two = masks.complete(clip, samples=2)
    assert two.samples is not None
    assert np.array_equal(two.samples, three.samples[:2])
    assert np.array_equal(two.amodal_mask, two.samples[0])
    with pytest.raises(InputError, match="samples: expected at least 1, got 0"):
        masks.complete(clip, samples=0)


def test_guards_are_counted_and_can_be_turned_off(folder: Path) -> None:
    masks = AmodalCompleter.from_pretrained(folder, stages=("amodal_segmentation",), device="cpu")
    clip = moving_square()
    depth = np.zeros(clip.modal_mask.shape, np.float32)
    depth[:, :, :20] = 1.0
    depth[clip.modal_mask] = 0.5
    free = masks.complete(clip, depth=depth, guards=Guards.of(["none"])).amodal_mask
    assert sum(masks.guarded.values()) == 0
    guarded = masks.complete(clip, depth=depth).amodal_mask
    assert (guarded <= free).all()
    assert masks.guarded["behind"] > 0
    assert sum(masks.guarded.values()) == (free & ~guarded).sum()
    released = AmodalCompleter.from_pretrained(
        folder, stages=("amodal_segmentation",), device="cpu", conditioning="released"
    )
    released.complete(clip, depth=depth)
    assert sum(released.guarded.values()) == 0


def test_copies_are_made_where_they_are_wanted_and_never_in_released_conditioning(folder: Path, tmp_path: Path) -> None:
    truth = moving()
    clip = VideoClip(truth.rgb, truth.modal, fps=8.0)
    stage: Literal["content_completion"] = "content_completion"

    def paint(model: Path, *, copies: bool | None = None, **how: Any) -> tuple[float, float]:
        """Mean error of hidden colours in grey levels, and how many of them are copies."""
        completer = AmodalCompleter.from_pretrained(model, stages=(stage,), device="cpu", **how)
        result = completer.complete(clip, depth=truth.depth, amodal_mask=truth.amodal, copies=copies)
        assert result.rgba is not None
        assert np.array_equal(result.rgba[truth.modal][:, :3], truth.rgb[truth.modal])
        assert np.array_equal(result.rgba[..., 3] == 255, truth.amodal)
        painted = result.rgba[truth.hidden][:, :3].astype(float)
        return float(np.abs(painted - truth.whole[truth.hidden]).mean()), completer.copied["copied"]

    without, nothing = paint(folder)
    assert nothing == 0
    better, copied = paint(folder, copies=True)
    assert copied > 0.5 * truth.hidden.sum()
    assert better < 0.6 * without
    copying = tmp_path / "copying"
    shutil.copytree(folder, copying)
    settings = read_settings(copying / stage)
    write_settings(replace(settings, sampling=replace(settings.sampling, copies=True)), copying / stage)
    assert paint(copying) == (better, copied)
    assert paint(copying, copies=False) == (without, 0)
    assert paint(copying, conditioning="released") == paint(folder, conditioning="released")


def test_presets_choose_and_choices_beat_them(completer: AmodalCompleter) -> None:
    default, paper = completer.sampling(), completer.sampling(preset="paper")
    assert default == completer.sampling(preset="default")
    for stage in STAGES:
        assert (paper[stage].num_inference_steps, paper[stage].guidance_scale) == (25, 1.5)
        assert paper[stage].height == default[stage].height
    chosen = completer.sampling(preset="paper", num_inference_steps=3, guidance_scale=1.0, solver="heun")
    assert {(values.num_inference_steps, values.guidance_scale, values.solver) for values in chosen.values()} == {
        (3, 1.0, "heun")
    }
    with pytest.raises(InputError, match="preset: expected one of fast, default, paper"):
        completer.sampling(preset="best")  # type: ignore[arg-type]


def test_a_preset_reaches_the_network(completer: AmodalCompleter) -> None:
    for arguments, expected in (({"preset": "fast"}, 2), ({"preset": "paper", "num_inference_steps": 3}, 3)):
        calls: dict[str, int] = dict.fromkeys(STAGES, 0)

        def count(stage: str, counted: dict[str, int] = calls) -> None:
            counted[stage] += 1

        with completer.watched(count):
            completer.complete(moving_square(3), **arguments)
        assert calls == dict.fromkeys(STAGES, expected)
