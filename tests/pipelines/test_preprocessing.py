"""From frames to network input: the same in training and inference, and for stretched frames the reference's bytes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from amodal_diffusion.basics import STAGES, InputError, Stage
from amodal_diffusion.config import BeyondPaper, Fit, Resample, SamplingConfig
from amodal_diffusion.data.samples import AmodalSample
from amodal_diffusion.frames.transforms import depth_to_unit
from amodal_diffusion.pipelines.postprocessing import hidden_score
from amodal_diffusion.pipelines.preprocessing import (
    FrameInput,
    clip_frames,
    preprocess_content,
    preprocess_mask,
    preprocess_on_white,
    preprocess_segmentation,
)
from amodal_diffusion.synthetic.scenes import make_scene
from amodal_diffusion.training.dataset import ClipPreprocessing
from amodal_diffusion.types import VideoClip
from tests.factories import moving_square
from tests.pipelines.formulas import bilinear

CONFIG = SamplingConfig(height=32, width=64, num_frames=4)
SIZES = [(37, 53), (20, 130), (96, 192), (24, 40)]


def random_frame(height: int, width: int, seed: int = 0) -> FrameInput:
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[:height, :width]
    modal = np.hypot(rows / height - 0.5, columns / width - 0.4) < 0.3
    return FrameInput(
        rng.integers(0, 256, (height, width, 3), dtype=np.uint8),
        modal,
        rng.uniform(-1, 1, (height, width)).astype("f4"),
    )


@pytest.mark.parametrize(("height", "width"), SIZES)
def test_stretched_frames_are_pils_8_bit_pictures(height: int, width: int) -> None:
    shown = random_frame(height, width)
    whole = shown.modal | np.roll(shown.modal, 5, axis=1)
    config = replace(CONFIG, fit="stretch")

    def scaled(picture: np.ndarray) -> np.ndarray:
        return np.asarray(Image.fromarray(picture).resize((64, 32), Image.Resampling.BILINEAR))

    def levels(tensor: torch.Tensor) -> np.ndarray:
        return ((tensor + 1) * 127.5).numpy()

    modal, depth = preprocess_segmentation([shown], config)
    np.testing.assert_allclose(levels(modal)[0, 0], scaled(shown.modal.astype(np.uint8) * 255), atol=1e-4)
    assert depth is not None
    assert depth.shape == (1, 1, 32, 64)
    seen, guide = preprocess_content([shown], [whole], config)
    on_white = np.where(shown.modal[..., None], shown.rgb, np.uint8(255))
    np.testing.assert_allclose(levels(seen)[0].transpose(1, 2, 0), scaled(on_white), atol=1e-4)
    np.testing.assert_allclose(levels(guide)[0, 0], scaled(whole.astype(np.uint8) * 255), atol=1e-4)


@pytest.mark.parametrize(("height", "width"), SIZES)
def test_resampling_as_cv2_is_bilinear_without_antialiasing(height: int, width: int) -> None:
    shown = random_frame(height, width)
    config = replace(CONFIG, fit="stretch", resample="cv2")
    modal, depth = preprocess_segmentation([shown], config)
    seen, _ = preprocess_content([shown], [shown.modal], config)
    on_white = np.where(shown.modal[..., None], shown.rgb, np.uint8(255))
    for tensor, picture in (
        (modal[0, 0], shown.modal.astype(np.uint8) * 255),
        *((seen[0, channel], on_white[..., channel]) for channel in range(3)),
    ):
        levels = ((tensor + 1) * 127.5).numpy()
        np.testing.assert_allclose(levels, levels.round(), atol=1e-4)  # 8 bits
        assert np.abs(levels - bilinear(picture, (32, 64))).max() <= 0.5 + 1e-3  # rounded once
    assert depth is not None
    assert shown.depth is not None
    np.testing.assert_allclose(depth[0, 0].numpy(), bilinear(shown.depth, (32, 64)), atol=1e-5)


def test_only_stretched_masks_have_gray_edges() -> None:
    clip = moving_square(2, 48, 80)
    frames = list(clip_frames(clip))
    for fit, gray in (("stretch", True), ("letterbox", False), ("crop", False)):
        modal, guide = preprocess_segmentation(frames, replace(CONFIG, fit=fit))
        assert modal.shape == (2, 1, 32, 64)
        assert bool((modal.abs() < 1).any()) == gray
        assert guide is None


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("fit", ["stretch", "letterbox", "crop"])
@pytest.mark.parametrize("resample", ["pil", "cv2"])
@pytest.mark.parametrize("temporal_prior", [False, True])
def test_training_and_inference_show_the_network_the_same(
    stage: Stage, fit: Fit, resample: Resample, temporal_prior: bool
) -> None:
    scene = make_scene(3, split="train", frames=4, height=48, width=80)
    truth = scene.target
    config = replace(CONFIG, fit=fit, resample=resample, beyond=BeyondPaper(temporal_prior=temporal_prior))
    sample = AmodalSample("clip", truth.modal, truth.amodal, scene.depth, scene.rgb, truth.rgb)
    batch = ClipPreprocessing(stage, config)(sample)
    clip = VideoClip(scene.rgb, truth.modal)
    frames = list(clip_frames(clip, scene.depth))
    if stage == "amodal_segmentation":
        modal, guide = preprocess_segmentation(frames, config)
        assert bool(((modal > -1) & (modal < 0)).any()) == (temporal_prior or fit == "stretch")
    else:
        modal, guide = preprocess_content(frames, list(truth.amodal), config)
    assert guide is not None
    assert torch.equal(batch.modal[0], modal)
    assert torch.equal(batch.guide[0], guide)


def test_depth_is_scaled_over_the_clip_and_in_a_crop_over_what_the_network_sees() -> None:
    clip = moving_square(3, 48, 160)
    depth = np.linspace(3, 9, clip.modal_mask.size, dtype=np.float32).reshape(clip.modal_mask.shape)
    frames = list(clip_frames(clip, depth))
    assert np.array_equal(np.stack([frame.depth for frame in frames]), depth_to_unit(depth)[:, 0].numpy())  # type: ignore[arg-type]
    for fit in ("letterbox", "crop"):
        _, guide = preprocess_segmentation(frames, replace(CONFIG, fit=fit))
        assert guide is not None
        low, high = float(guide.min()), float(guide.max())
        if fit == "crop":
            assert (low, high) == (-1, 1)
        assert -1 <= low < high <= 1
    assert preprocess_segmentation([frames[0], replace(frames[1], depth=None)], CONFIG)[1] is None


def test_crops_follow_the_visible_part_and_the_known_whole() -> None:
    clip = moving_square(3)
    whole = clip.modal_mask.copy()
    whole[:, 2:22, 2:38] = True
    seen, known = next(clip_frames(clip)).center, next(clip_frames(clip, amodal_mask=whole)).center
    assert seen is not None
    assert known is not None
    assert (seen.height, seen.width) == (10, 10)
    assert (known.height, known.width) == (20, 36)
    frame = FrameInput(clip.rgb[0], clip.modal_mask[0])
    with pytest.raises(InputError, match="center: fit is crop"):
        preprocess_segmentation([frame], replace(CONFIG, fit="crop"))


@pytest.mark.parametrize("fit", ["stretch", "letterbox", "crop"])
def test_frames_and_masks_are_scaled_on_the_device_that_is_asked_for(fit: Fit) -> None:
    """Tensors of the meta device cannot come back from it."""
    meta, clip = torch.device("meta"), moving_square()
    geometry = next(iter(clip_frames(clip))).geometry(replace(CONFIG, fit=fit))
    mask = preprocess_mask(clip.modal_mask[0], geometry, meta)
    white = preprocess_on_white(clip.rgb[0], clip.modal_mask[0], geometry, meta)
    free = hidden_score(torch.zeros(geometry.target_hw, device=meta), clip.modal_mask[0], geometry)
    assert {mask.device, white.device, free.device} == {meta}
    assert (mask.shape, white.shape, free.shape) == (
        (1, 1, *geometry.target_hw), (1, 3, *geometry.target_hw), clip.modal_mask.shape[1:],
    )  # fmt: skip
