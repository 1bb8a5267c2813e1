"""SAMEO on one page: frame into the square, box prompt, mask and predicted IoU, back into the frame."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from amodal_diffusion.basics import InputError
from amodal_diffusion.frames.boxes import Box, tight_box, track_boxes
from amodal_diffusion.frames.cuts import clip_cuts, shots_of
from amodal_diffusion.models.sameo.config import SameoSampling
from amodal_diffusion.models.sameo.network import (
    Sameo,
    frame_geometry,
    frame_logits,
    network_boxes,
    prepare_images,
)
from amodal_diffusion.models.sameo.saving import load_sameo
from amodal_diffusion.models.weights import find_device
from amodal_diffusion.types import BoolArray, FloatArray, Segmentation, UInt8Array, VideoClip


@dataclass(frozen=True)
class BoxMask:
    """What SAMEO answers to a box.

    Attributes:
        probability: probability that a pixel belongs to the object, float32 ``[H, W]`` in [0, 1].
        iou: predicted IoU of the mask with the truth, in [0, 1].
    """

    probability: FloatArray
    iou: float


class SameoSegmenter:
    """Predicts amodal masks with SAMEO, each frame by itself.

    Args:
        model: the networks, set to evaluation mode.
        sampling: how masks are predicted.
        device: as for :func:`~amodal_diffusion.models.weights.find_device`.

    Raises:
        InputError: if the device cannot be used.
    """

    def __init__(
        self, model: Sameo, sampling: SameoSampling | None = None, *, device: str | torch.device = "cpu"
    ) -> None:
        self.sampling = sampling or SameoSampling()
        self.device = find_device(device)
        self.model = model.to(self.device).eval()

    @classmethod
    def from_folder(
        cls, folder: Path, *, base: Path | None = None, device: str | torch.device = "cpu"
    ) -> SameoSegmenter:
        """Load a checkpoint, which is sampled as it says.

        Raises:
            InputError: as :func:`~amodal_diffusion.models.sameo.saving.load_sameo`.
        """
        model, sampling = load_sameo(folder, base=base)
        return cls(model, sampling, device=device)

    def __call__(
        self,
        clip: VideoClip,
        depth: FloatArray | None = None,
        *,
        generator: torch.Generator | None = None,
        amodal_hint: BoolArray | None = None,
    ) -> Segmentation:
        """Predict the amodal masks of a clip; a frame without a box is not valid, and its mask is empty.

        Args:
            clip: frames and modal masks.
            depth: unused; the method sees only colors and boxes.
            generator: unused; the method draws nothing.
            amodal_hint: another method's amodal masks, bool ``[F, H, W]``; with ``box_source: amodal_hint`` their boxes
                are the prompts, and the masks are refined.

        Raises:
            InputError: if the hint has another shape, or is missing though ``box_source`` asks for it.
        """
        del depth, generator
        # 1. A box for each frame.
        sampling = self.sampling
        boxes = prompt_boxes(clip, self._prompt_masks(clip, amodal_hint), interpolate=sampling.gap == "interpolate")

        # 2. Mask and predicted IoU of each box.
        probability = np.zeros(clip.modal_mask.shape, dtype=np.float32)
        score = np.zeros(clip.num_frames, dtype=np.float32)
        known = [frame for frame, box in enumerate(boxes) if box is not None]
        for start in range(0, len(known), sampling.frames_at_once):
            chosen = known[start : start + sampling.frames_at_once]
            prompts = [[corners_of(box)] for frame in chosen if (box := boxes[frame]) is not None]
            found = self._answer(clip.rgb[chosen], np.array(prompts))
            for frame, answer in zip(chosen, found, strict=True):
                probability[frame], score[frame] = answer.probability, answer.iou
        valid: BoolArray = np.array([box is not None for box in boxes], dtype=np.bool_)

        # 3. The visible part belongs to the object, whatever the network says.
        mask = probability > sampling.mask_threshold
        if sampling.union_modal:
            mask |= clip.modal_mask & valid[:, None, None]
        return Segmentation(mask, probability, valid, score)

    def segment(self, rgb: UInt8Array, boxes: npt.NDArray[np.floating]) -> Iterator[BoxMask]:
        """Predict the masks of all boxes in one image, which is encoded once.

        Args:
            rgb: uint8 ``[H, W, 3]``.
            boxes: float ``[Q, 4]``: left, top, right, bottom in pixels.

        Yields:
            one mask per box, in their order.
        """
        yield from self._answer(rgb[None], np.asarray(boxes, dtype=np.float64)[None])

    def _prompt_masks(self, clip: VideoClip, hint: BoolArray | None) -> BoolArray:
        """The masks whose boxes are the prompts, bool ``[F, H, W]``."""
        if self.sampling.box_source == "modal":
            return clip.modal_mask
        if hint is None or hint.shape != clip.modal_mask.shape:
            got = "none" if hint is None else str(list(hint.shape))
            raise InputError(
                f"amodal_hint: expected masks {list(clip.modal_mask.shape)} beside box_source amodal_hint, got {got}; "
                "give another method's masks, or set box_source to modal"
            )
        return np.asarray(hint, dtype=np.bool_)

    def _answer(self, rgb: UInt8Array, boxes: npt.NDArray[np.floating]) -> Iterator[BoxMask]:
        """Masks of the boxes, float ``[N, Q, 4]``, in each of the images, uint8 ``[N, H, W, 3]``."""
        config = self.model.config
        geometry = frame_geometry(config, (rgb.shape[1], rgb.shape[2]))
        prompts = network_boxes(torch.from_numpy(boxes), geometry).to(self.device)
        with torch.no_grad():
            embeddings = self.model.encode(prepare_images(rgb, geometry).to(self.device))
        for embedding, queries in zip(embeddings, prompts, strict=True):
            for part in queries.split(self.sampling.boxes_at_once):
                with torch.no_grad():
                    logits, ious = self.model.decode(embedding[None], part[None])
                    masks = frame_logits(logits[0], geometry, config).sigmoid().float().cpu().numpy()
                for probability, iou in zip(masks, ious[0].tolist(), strict=True):
                    yield BoxMask(probability, _unit(iou))


def prompt_boxes(clip: VideoClip, masks: BoolArray, *, interpolate: bool) -> list[Box | None]:
    """Tight box of the mask of each frame.

    Args:
        clip: gives the shots.
        masks: bool ``[F, H, W]``.
        interpolate: where a mask is empty, take a box between those of the neighboring frames of the shot, instead of
            None. A shot whose masks are all empty has none in any case.
    """
    found: list[Box | None] = [tight_box(mask) for mask in masks]
    if interpolate:
        for first, end in shots_of(clip.num_frames, clip_cuts(clip)):
            if masks[first:end].any():
                found[first:end] = track_boxes(masks[first:end])
    return found


def corners_of(box: Box) -> tuple[float, float, float, float]:
    """Left, top, right and bottom of a box of rows and columns."""
    top, left, bottom, right = box
    return float(left), float(top), float(right), float(bottom)


def combined_score(front: float, own: float) -> float:
    """Final score of a refined detection: the front end's score times SAMEO's predicted IoU, each cut to [0, 1].

    Args:
        front: score of the front end; NaN counts as 0.
        own: predicted IoU, which may leave [0, 1]; NaN counts as 0.
    """
    return _unit(front) * _unit(own)


def _unit(value: float) -> float:
    """A regressed score in [0, 1]; what is no number stands for no confidence."""
    return 0.0 if math.isnan(value) else min(max(value, 0.0), 1.0)
