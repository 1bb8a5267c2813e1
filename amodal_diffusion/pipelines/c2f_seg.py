"""C2F-Seg on one page: crop around the object, tokens, decoding, refinement, back into the frames."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from amodal_diffusion.basics import InputError
from amodal_diffusion.frames.boxes import SMALLEST_CROP, Box, BoxCrop, box_crops, enlarge, track_boxes
from amodal_diffusion.frames.cuts import clip_cuts, shots_of
from amodal_diffusion.frames.windows import OverlapBlender
from amodal_diffusion.models.c2f_seg.config import C2FSampling, C2FSegConfig
from amodal_diffusion.models.c2f_seg.network import C2FSeg
from amodal_diffusion.models.c2f_seg.saving import load_c2f_seg
from amodal_diffusion.models.weights import find_device
from amodal_diffusion.types import BoolArray, FloatArray, Segmentation, UInt8Array, VideoClip


class C2FSegmenter:
    """Predicts amodal masks with C2F-Seg.

    Args:
        model: the networks, set to evaluation mode.
        sampling: how masks are predicted.
        device: as for :func:`~amodal_diffusion.models.weights.find_device`.

    Raises:
        InputError: if ``frames_at_once`` is no multiple of the attention window, or the device cannot be used.
    """

    def __init__(
        self, model: C2FSeg, sampling: C2FSampling | None = None, *, device: str | torch.device = "cpu"
    ) -> None:
        self.sampling = sampling or C2FSampling()
        self.device = find_device(device)
        self.model = model.to(self.device)
        window, at_once = model.config.window_frames, self.sampling.frames_at_once
        if at_once is not None and (at_once < 1 or at_once % window):
            raise InputError(f"frames_at_once: expected a multiple of the window of {window} frames, got {at_once}")

    @classmethod
    def from_folder(cls, folder: Path, *, device: str | torch.device = "cpu") -> C2FSegmenter:
        """Load a checkpoint, which is sampled as it says.

        Raises:
            InputError: as :func:`~amodal_diffusion.models.c2f_seg.saving.load_c2f_seg`.
        """
        model, sampling = load_c2f_seg(folder)
        return cls(model, sampling, device=device)

    @torch.no_grad()
    def __call__(
        self, clip: VideoClip, depth: FloatArray | None = None, *, generator: torch.Generator | None = None
    ) -> Segmentation:
        """Predict the amodal masks of a clip; each shot is a clip of its own.

        Args:
            clip: frames and modal masks.
            depth: unused; the method sees only colors and masks.
            generator: draws the tokens; by default a new one with seed 0, so that equal clips get equal masks.
        """
        del depth
        generator = generator or torch.Generator().manual_seed(0)
        probability = np.zeros(clip.modal_mask.shape, dtype=np.float32)
        valid = np.zeros(clip.num_frames, dtype=np.bool_)
        for first, end in shots_of(clip.num_frames, clip_cuts(clip)):
            modal = clip.modal_mask[first:end]
            if not modal.any():
                continue  # nothing shows where to look
            probability[first:end] = self._shot(clip.rgb[first:end], modal, generator)
            valid[first:end] = True if self.model.config.is_video else modal.any(axis=(1, 2))
        probability[~valid] = 0

        # The visible part belongs to the object, whatever the network says.
        mask = probability > self.sampling.mask_threshold
        if self.sampling.union_modal:
            mask |= clip.modal_mask
        area = mask.sum(axis=(1, 2))
        score = (probability * mask).sum(axis=(1, 2)) / np.maximum(area, 1)
        return Segmentation(mask, probability, valid, score.astype(np.float32))

    def _shot(self, rgb: UInt8Array, modal: BoolArray, generator: torch.Generator) -> FloatArray:
        """Probability of the amodal mask in a shot that shows the object, float32 ``[F, H, W]``."""
        # 1. Crop around the visible part; a frame without one is cropped between its neighbors.
        config, sampling = self.model.config, self.sampling
        crops = crops_around(modal, config, crop_scale=sampling.crop_scale)
        images, masks = crop_images(rgb, crops), crop_masks(modal, crops)

        # 2. Tokens of the modal mask, decoding of amodal tokens in K rounds, coarse mask, refinement.
        blender, final = OverlapBlender(), []
        with evaluating(self.model):
            for start, end in network_windows(len(rgb), config, sampling.frames_at_once):
                prediction = self.model.predict(
                    images[None, start:end].to(self.device),
                    masks[None, start:end].to(self.device),
                    sampling,
                    generator=generator,
                )
                found = prediction.probability(merge_coarse=sampling.merge_coarse)[0].cpu()  # [n, S, S]
                final.append(blender.add(start, found))
        final.append(blender.finish())

        # 3. Back into the frames.
        pasted = [crop.paste_back(part[None, None])[0, 0] for crop, part in zip(crops, torch.cat(final), strict=True)]
        return np.asarray(torch.stack(pasted).clamp(0, 1).numpy(), dtype=np.float32)


def crops_around(masks: BoolArray, config: C2FSegConfig, *, crop_scale: float | Sequence[float]) -> list[BoxCrop]:
    """Crops of a shot as the networks see them.

    Args:
        masks: the masks to crop around, bool ``[F, H, W]``, not all empty.
        config: gives the size; in a video model all frames have one scale.
        crop_scale: side of a crop over the side of the mask's box, for all frames or each.

    Raises:
        InputError: if every mask is empty.
    """
    height, width = masks.shape[1:]
    boxes: list[Box] = track_boxes(masks)
    factors = [crop_scale] * len(boxes) if isinstance(crop_scale, (int, float)) else list(crop_scale)
    larger = [
        enlarge(box, factor, (height, width), smallest=SMALLEST_CROP)
        for box, factor in zip(boxes, factors, strict=True)
    ]
    return box_crops(larger, (height, width), config.size, common_scale=config.is_video)


def crop_images(rgb: UInt8Array, crops: Sequence[BoxCrop]) -> Tensor:
    """Crop frames, uint8 ``[F, H, W, 3]``, to float32 ``[F, 3, S, S]`` in [0, 1]."""
    frames = torch.from_numpy(np.ascontiguousarray(np.moveaxis(rgb, -1, 1)))  # [F, 3, H, W]
    parts = [crop.apply(frame[None].float() / 255) for crop, frame in zip(crops, frames, strict=True)]
    return torch.cat(parts).clamp(0, 1)


def crop_masks(masks: BoolArray, crops: Sequence[BoxCrop]) -> Tensor:
    """Crop masks, bool ``[F, H, W]``, to float32 ``[F, 1, S, S]``, 0 or 1."""
    frames = torch.from_numpy(masks.astype(np.float32))[:, None]
    return torch.cat([crop.apply(frame[None], nearest=True) for crop, frame in zip(crops, frames, strict=True)])


def network_windows(frames: int, config: C2FSegConfig, at_once: int | None) -> list[tuple[int, int]]:
    """Windows of a shot that pass the networks one after another.

    Args:
        frames: length of the shot.
        config: gives the attention window, of which neighbors share half.
        at_once: largest number of frames in a window; None for the whole shot.

    Returns:
        first frame of each, and one past its last; the last window may share more.
    """
    if at_once is None or frames <= at_once:
        return [(0, frames)]
    step = at_once - config.window_frames // 2
    starts = [*range(0, frames - at_once, step), frames - at_once]
    return [(start, start + at_once) for start in starts]


@contextmanager
def evaluating(model: C2FSeg) -> Iterator[None]:
    """Context without dropout and with the stored statistics of batch normalization."""
    training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(training)
