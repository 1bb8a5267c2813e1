"""Masks and depth of exact scenes made like what segmentation tools and depth networks give, or depth left out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch
from scipy import ndimage
from torch.nn import functional

from amodal_diffusion.data.samples import AmodalSample
from amodal_diffusion.synthetic.rng import Dice
from amodal_diffusion.types import BoolArray, FloatArray, UInt8Array

_MARGIN = 8
"""Pixels around the object that its border can reach; the rest of the frame is not worked on."""

_FEWEST_SEEN = 4
"""A frame is missed only where so many show the object, so that what is left still tells of its shape."""


@dataclass(frozen=True)
class Degrading:
    """What happens to the clips of a dataset, each by its own dice.

    A clip that is changed at one share is changed in the same way at any larger one.

    Attributes:
        degraded_share: share of clips whose masks and depth are made like those of tools, 0 to 1.
        depthless_share: share of clips that come without depth, 0 to 1.
    """

    degraded_share: float = 0.0
    depthless_share: float = 0.0

    def __call__(self, sample: AmodalSample, dice: Dice) -> AmodalSample:
        """Change one clip, or leave it as it is.

        Args:
            sample: of whole frames, visible in at least one; its `modal_rgb` is not yet known.
            dice: of this clip alone.

        Returns:
            a sample visible in at least one frame, whose `amodal` contains `modal`; the given one is left alone.
        """
        depthless, degraded = dice.chance(self.depthless_share), dice.chance(self.degraded_share)
        if degraded:
            sample = with_modal(sample, rough_masks(sample.modal, dice))
            if sample.depth is not None:
                sample = replace(sample, depth=estimated_depth(sample.depth, dice))
        return replace(sample, depth=None) if depthless else sample


def with_modal(sample: AmodalSample, modal: BoolArray) -> AmodalSample:
    """Give a sample another visible part.

    What of it lies outside of the whole object is added to that, with the frame's colours, and not cut off: in use
    the visible part is taken as it is given and the result contains it, so the truth must not contradict it.

    Args:
        sample: with `modal_rgb` None, as it would no longer be true.
        modal: bool ``[F, H, W]``.
    """
    beyond = modal & ~sample.amodal
    whole_rgb: UInt8Array | None = sample.whole_rgb
    if sample.rgb is not None and whole_rgb is not None:
        whole_rgb = np.where(beyond[..., None], sample.rgb, whole_rgb)
    return replace(sample, modal=modal, amodal=sample.amodal | beyond, whole_rgb=whole_rgb)


def rough_masks(modal: BoolArray, dice: Dice) -> BoolArray:
    """Masks as segmentation tools give them: ragged borders, small holes and specks, rarely a missed frame.

    The border is off by up to about two pixels, and much the same in neighbouring frames. A frame of which less than
    two thirds would be left, such as one of a thin stick, stays as it is.

    Args:
        modal: exact masks, bool ``[F, H, W]``.
        dice: what is drawn.

    Returns:
        bool ``[F, H, W]``; empty where `modal` is, and visible in at least one frame if `modal` is.
    """
    seen = modal.any(axis=(1, 2))
    if not seen.any():
        return modal
    rows, columns = np.flatnonzero(modal.any(axis=(0, 2))), np.flatnonzero(modal.any(axis=(0, 1)))
    window = (slice(None), _around(rows), _around(columns))
    exact = modal[window]
    width = dice.uniform(0.6, 1.5)
    soft = ndimage.gaussian_filter(exact.astype(np.float32), (0, width, width), truncate=3.0)
    shift = dice.uniform(-0.1, 0.1) + dice.uniform(0.1, 0.45) * _smooth_noise(dice, exact.shape, frames=3, pixels=4)
    rough: BoolArray = soft > np.clip(0.5 + shift, 0.03, 0.97)
    spots = _smooth_noise(dice, exact.shape, frames=2, pixels=3)
    if dice.chance(0.5):
        rough &= spots < dice.uniform(0.7, 0.9)  # holes
    if dice.chance(0.5):
        near = ndimage.uniform_filter(exact.astype(np.float32), (0, 5, 5)) > 0.05
        rough |= near & (spots < -dice.uniform(0.7, 0.9))  # specks
    lost = 3 * (rough & exact).sum(axis=(1, 2)) < 2 * exact.sum(axis=(1, 2))
    rough[lost] = exact[lost]
    if dice.chance(0.1) and seen.sum() >= _FEWEST_SEEN:
        rough[dice.choice(np.flatnonzero(seen).tolist())] = False
    result = np.zeros_like(modal)
    result[window] = rough
    return result


def estimated_depth(depth: FloatArray, dice: Dice) -> FloatArray:
    """Depth as networks and sensors give it: wavy, soft at borders, grainy, in few levels, on another scale.

    Args:
        depth: exact, any scale, nearer is larger, float32 ``[F, H, W]``.
        dice: what is drawn.

    Returns:
        float32 ``[F, H, W]`` in [0, 1], nearer is larger; as it was where all of it is the same.
    """
    low, high = float(depth.min()), float(depth.max())
    if not high > low:
        return depth
    values: FloatArray = (depth - low) / (high - low)
    frames = len(depth)
    if dice.chance(0.6):  # each frame is estimated on its own, on a scale of its own
        scale, offset = dice.array((2, frames, 1, 1), -1.0, 1.0).astype(np.float32) * dice.uniform(0.0, 0.08)
        values = values * (1 + scale) + offset
    if dice.chance(0.7):
        waves = dice.uniform(0.0, 0.12) * _smooth_noise(dice, depth.shape, frames=4, pixels=24)
        values = values * (1 + waves) if dice.chance(0.5) else values + waves
    if dice.chance(0.6):
        width = dice.uniform(0.5, 2.0)
        values = ndimage.gaussian_filter(values, (0, width, width), truncate=2.0, mode="nearest")
    if dice.chance(0.4):
        values = values + dice.array(depth.shape, -1.0, 1.0).astype(np.float32) * dice.uniform(0.0, 0.05)
    values = draw_curve(dice)(np.clip(values, 0.0, 1.0))
    if dice.chance(0.4):
        steps = dice.choice((15, 31, 63, 255))
        values = (np.round(values * steps) / steps).astype(np.float32)
    return np.clip(values, 0.0, 1.0)


def draw_curve(dice: Dice) -> Callable[[FloatArray], FloatArray]:
    """A scale that depth may come in, as a rising function from [0, 1] onto [0, 1].

    Either it is left alone, or brightened or darkened, or it went by way of a distance: nearness taken as the inverse
    of distance and then turned round as `largest distance - distance`, or as a distance of which the inverse is taken.
    """
    kind = dice.choice(("plain", "gamma", "turned", "inverse"))
    if kind == "plain":
        return lambda values: values
    if kind == "gamma":
        exponent = 2.0 ** dice.uniform(-1.3, 1.3)
        return lambda values: values**exponent
    nearest = dice.uniform(0.1, 0.6)
    if kind == "turned":
        return lambda values: values * (1 + nearest) / (values + nearest)
    return lambda values: values * nearest / (1 + nearest - values)


def _around(places: npt.NDArray[np.intp]) -> slice:
    """From the first to the last place, with the margin."""
    return slice(max(0, int(places[0]) - _MARGIN), int(places[-1]) + 1 + _MARGIN)


def _smooth_noise(dice: Dice, shape: tuple[int, ...], *, frames: int, pixels: int) -> FloatArray:
    """Noise in [-1, 1], float32 ``[F, H, W]``, that goes straight from one draw to the next over so many places."""
    cells = (frames, pixels, pixels)
    counts = tuple(-(-size // cell) + 2 for size, cell in zip(shape, cells, strict=True))
    draws = torch.from_numpy(dice.array(counts, -1.0, 1.0).astype(np.float32))
    full = [(count - 1) * cell + 1 for count, cell in zip(counts, cells, strict=True)]
    noise = functional.interpolate(draws[None, None], full, mode="trilinear", align_corners=True)[0, 0].numpy()
    starts = [dice.integer(0, cell - 1) for cell in cells]  # so that the draws are not always at the same places
    cut: FloatArray = noise[tuple(slice(start, start + size) for start, size in zip(starts, shape, strict=True))]
    return cut
