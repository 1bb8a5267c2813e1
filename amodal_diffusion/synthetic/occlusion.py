"""Occlusion of a fully visible object at a chosen rate: another object is scaled, placed and pasted in front of it.

All functions take arrays; `data.amodal_lvis` reads the pictures.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from amodal_diffusion.basics import InputError
from amodal_diffusion.frames.boxes import tight_box
from amodal_diffusion.frames.masks import resize_masks
from amodal_diffusion.frames.transforms import resize_picture
from amodal_diffusion.synthetic.rng import Rng
from amodal_diffusion.types import BoolArray, FloatArray, UInt8Array


@dataclass(frozen=True)
class OcclusionRule:
    """How occluders are scaled and placed. SAMEO's paper states the steps, but no number: all defaults are ours.

    Attributes:
        scale: range of the root of the occluder's area over that of the target's area.
        largest_enlargement: an occluder that would have to be enlarged by more is rejected.
        rate: range of the occluded share of the target.
        reachable_share: the drawn rate is at most this share of the rate that the centered occluder reaches.
        least_centered: an occluder that hides less of the target when centered is rejected.
        tolerance: largest difference between drawn and reached rate.
        directions: number of directions that are tried.
        rounds: number of bisections of the distance.
        largest_neighbor_share: an occluder that hides more of another object of the image is rejected.
    """

    scale: tuple[float, float] = (0.6, 1.2)
    largest_enlargement: float = 2.0
    rate: tuple[float, float] = (0.1, 0.7)
    reachable_share: float = 0.9
    least_centered: float = 0.12
    tolerance: float = 0.05
    directions: int = 5
    rounds: int = 12
    largest_neighbor_share: float = 0.95

    def __post_init__(self) -> None:
        """Check the ranges.

        Raises:
            InputError: if one is empty or outside of what is possible.
        """
        if not (0 < self.scale[0] <= self.scale[1] and 0 < self.rate[0] <= self.rate[1] < 1):
            raise InputError(
                f"occlusion: expected 0 < least <= largest for scale and, below 1, for rate, got {self.scale} and "
                f"{self.rate}"
            )
        if self.directions < 1 or self.rounds < 1 or not 0 < self.tolerance < 1:
            raise InputError("occlusion: expected directions and rounds of at least 1 and 0 < tolerance < 1")


@dataclass(frozen=True)
class Placement:
    """Where an occluder is.

    Attributes:
        row: row of the image at which the occluder's first row lies; may be negative.
        column: column of the image at which the occluder's first column lies; may be negative.
        drawn_rate: occluded share of the target that was aimed at.
        rate: occluded share of the target that was reached.
    """

    row: int
    column: int
    drawn_rate: float
    rate: float


@dataclass(frozen=True)
class Cutout:
    """An object cut out of its image, with no empty row or column around it.

    Attributes:
        rgb: colors, uint8 ``[h, w, 3]``.
        mask: the object's pixels, bool ``[h, w]``.
    """

    rgb: UInt8Array
    mask: BoolArray


def cut_out(rgb: UInt8Array, mask: BoolArray) -> Cutout:
    """Cut an object out of an image.

    Args:
        rgb: uint8 ``[H, W, 3]``.
        mask: bool ``[H, W]``.

    Raises:
        InputError: if the mask is empty.
    """
    box = tight_box(mask)
    if box is None:
        raise InputError("mask: expected at least one pixel, got an empty mask")
    top, left, bottom, right = box
    return Cutout(rgb[top:bottom, left:right], mask[top:bottom, left:right])


def scale_cutout(cutout: Cutout, target_area: int, ratio: float, rule: OcclusionRule) -> Cutout | None:
    """Scale an occluder relative to its target, with its aspect ratio kept.

    Args:
        cutout: the occluder.
        target_area: pixels of the target.
        ratio: root of the occluder's new area over that of the target's.
        rule: limits the enlargement.

    Returns:
        the scaled occluder; None if it would be enlarged too much, or nothing would be left of it.
    """
    factor = ratio * math.sqrt(target_area / int(cutout.mask.sum()))
    if factor > rule.largest_enlargement:
        return None
    height, width = (max(1, round(side * factor)) for side in cutout.mask.shape)
    mask = resize_masks(cutout.mask[None], height, width)[0]
    if not mask.any():
        return None
    return cut_out(resize_picture(cutout.rgb, (height, width)), mask)


def shift_mask(mask: BoolArray, row: int, column: int, size: tuple[int, int]) -> BoolArray:
    """Put a mask ``[h, w]`` at a place of an empty one ``[H, W]``; what leaves the image is cut off."""
    shifted = np.zeros(size, dtype=np.bool_)
    here, there = _overlap(mask.shape, row, column, size)
    shifted[here] = mask[there]
    return shifted


def place_occluder(target: BoolArray, occluder: BoolArray, rule: OcclusionRule, *, rng: Rng) -> Placement | None:
    """Find a place at which an occluder hides a drawn share of a target.

    The occluder moves away from the target's center in a random direction until the share fits. The share is drawn
    below what the occluder reaches at the center, as a small one cannot hide much.

    Args:
        target: amodal mask of the target in its image, bool ``[H, W]``, not empty.
        occluder: mask of the occluder, bool ``[h, w]``, not empty.
        rule: range and tolerance.
        rng: draws share and directions.

    Returns:
        the place; None if the occluder is too small or no direction reaches the share.
    """
    box = tight_box(target)
    if box is None:
        return None
    top, left, bottom, right = box
    height, width = occluder.shape
    start = ((top + bottom - height) / 2, (left + right - width) / 2)

    def at(distance: float, angle: float) -> tuple[int, int, float]:
        row = round(start[0] + distance * math.sin(angle))
        column = round(start[1] + distance * math.cos(angle))
        return row, column, _hidden(target, occluder, row, column)

    centered = at(0.0, 0.0)[2]
    largest = min(rule.rate[1], rule.reachable_share * centered)
    if centered < rule.least_centered or largest < rule.rate[0]:
        return None
    wanted = rng.uniform(rule.rate[0], largest)
    farthest = (math.hypot(bottom - top, right - left) + math.hypot(height, width)) / 2
    for _ in range(rule.directions):
        angle = rng.angle()
        near, far = 0.0, farthest
        for _ in range(rule.rounds):
            middle = (near + far) / 2
            near, far = (middle, far) if at(middle, angle)[2] > wanted else (near, middle)
        row, column, rate = min((at(near, angle), at(far, angle)), key=lambda found: abs(found[2] - wanted))
        if abs(rate - wanted) <= rule.tolerance:
            return Placement(row, column, wanted, rate)
    return None


def paste(rgb: UInt8Array, cutout: Cutout, placement: Placement, *, feather: float = 1.0) -> UInt8Array:
    """Paste an occluder over an image.

    Args:
        rgb: uint8 ``[H, W, 3]``.
        cutout: the occluder.
        placement: where it goes; what leaves the image is cut off.
        feather: width in pixels of the soft edge, which lies inside the occluder's mask; 0 for a hard edge.

    Returns:
        uint8 ``[H, W, 3]``; unchanged outside the occluder's mask.
    """
    here, there = _overlap(cutout.mask.shape, placement.row, placement.column, (rgb.shape[0], rgb.shape[1]))
    alpha = _soft_edge(cutout.mask, feather)[there][..., None]
    mixed = alpha * cutout.rgb[there].astype(np.float32) + (1 - alpha) * rgb[here].astype(np.float32)
    pasted = rgb.copy()
    pasted[here] = np.rint(mixed).astype(np.uint8)
    return pasted


def _soft_edge(mask: BoolArray, feather: float) -> FloatArray:
    """Opacity of each pixel, float32 ``[h, w]``; 0 outside the mask, 1 at least ``feather`` pixels inside."""
    if feather <= 0:
        return mask.astype(np.float32)
    # An object's pixels lie at least 1 from the nearest pixel outside, of which the array's border counts as one.
    inside = ndimage.distance_transform_edt(np.pad(mask, 1))[1:-1, 1:-1]
    return np.asarray(np.clip(inside / (feather + 1), 0, 1), dtype=np.float32)


def _hidden(target: BoolArray, occluder: BoolArray, row: int, column: int) -> float:
    """Share of the target behind the occluder."""
    here, there = _overlap(occluder.shape, row, column, target.shape)
    return float((target[here] & occluder[there]).sum() / target.sum())


def _overlap(
    shape: tuple[int, ...], row: int, column: int, size: tuple[int, ...]
) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
    """Slices of the image and of the occluder where both are."""
    here, there = [], []
    for shift, source, target in zip((row, column), shape, size, strict=True):
        start, stop = max(0, shift), max(0, shift, min(target, source + shift))
        here.append(slice(start, stop))
        there.append(slice(start - shift, stop - shift))
    return (here[0], here[1]), (there[0], there[1])
