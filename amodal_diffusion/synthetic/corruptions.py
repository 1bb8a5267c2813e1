"""Corruptions of exact masks and depth that imitate segmentation tools and depth networks."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import torch
from scipy import ndimage
from torch.nn import functional

from amodal_diffusion.synthetic.rng import Rng
from amodal_diffusion.types import BoolArray, FloatArray, UInt8Array

_MARGIN = 8
"""Padding of the object's bounding box in pixels; the corruption is computed inside the padded box only."""

_FEWEST_SEEN = 4
"""Smallest number of frames with a visible object at which one frame may be dropped."""


def include_visible(
    amodal: BoolArray, modal: BoolArray, *, rgb: UInt8Array | None, whole_rgb: UInt8Array | None
) -> tuple[BoolArray, UInt8Array | None]:
    """Add visible pixels outside the amodal mask to it, and their colors to the amodal RGB.

    A model returns a superset of the modal mask that it gets, so the ground truth must contain that mask as well.

    Args:
        amodal: amodal masks, bool ``[F, H, W]``.
        modal: corrupted modal masks, bool ``[F, H, W]``.
        rgb: frames, uint8 ``[F, H, W, 3]``, or None.
        whole_rgb: complete object on white, uint8 ``[F, H, W, 3]``, or None.

    Returns:
        amodal masks that contain the modal masks, and the amodal RGB, which changes only if both RGB arrays are given.
    """
    beyond = modal & ~amodal
    if rgb is not None and whole_rgb is not None:
        whole_rgb = np.where(beyond[..., None], rgb, whole_rgb)
    return amodal | beyond, whole_rgb


def corrupt_masks(modal: BoolArray, rng: Rng) -> BoolArray:
    """Add ragged borders, small holes and specks, and rarely drop one frame, as segmentation tools do.

    The border moves by up to about two pixels, similarly in neighboring frames. A mask that would lose more than a
    third of its pixels, such as that of a thin stick, stays exact.

    Args:
        modal: exact modal masks, bool ``[F, H, W]``.
        rng: source of the draws.

    Returns:
        bool ``[F, H, W]``; empty in frames where `modal` is empty, but not in all frames unless `modal` is.
    """
    seen = modal.any(axis=(1, 2))
    if not seen.any():
        return modal
    rows, columns = np.flatnonzero(modal.any(axis=(0, 2))), np.flatnonzero(modal.any(axis=(0, 1)))
    window = (slice(None), _around(rows), _around(columns))
    exact = modal[window]
    width = rng.uniform(0.6, 1.5)
    soft = ndimage.gaussian_filter(exact.astype(np.float32), (0, width, width), truncate=3.0)
    shift = rng.uniform(-0.1, 0.1) + rng.uniform(0.1, 0.45) * _smooth_noise(rng, exact.shape, frames=3, pixels=4)
    rough: BoolArray = soft > np.clip(0.5 + shift, 0.03, 0.97)
    spots = _smooth_noise(rng, exact.shape, frames=2, pixels=3)
    if rng.chance(0.5):
        rough &= spots < rng.uniform(0.7, 0.9)  # holes
    if rng.chance(0.5):
        near = ndimage.uniform_filter(exact.astype(np.float32), (0, 5, 5)) > 0.05
        rough |= near & (spots < -rng.uniform(0.7, 0.9))  # specks
    lost = 3 * (rough & exact).sum(axis=(1, 2)) < 2 * exact.sum(axis=(1, 2))
    rough[lost] = exact[lost]
    if rng.chance(0.1) and seen.sum() >= _FEWEST_SEEN:
        rough[rng.choice(np.flatnonzero(seen).tolist())] = False
    result = np.zeros_like(modal)
    result[window] = rough
    return result


def corrupt_depth(depth: FloatArray, rng: Rng) -> FloatArray:
    """Add per-frame scale, waves, blur, noise, a nonlinear curve and quantization, each with some probability.

    Args:
        depth: exact depth in any scale, nearer is larger, float32 ``[F, H, W]``.
        rng: source of the draws.

    Returns:
        float32 ``[F, H, W]`` in [0, 1], nearer is larger; constant depth is returned unchanged.
    """
    low, high = float(depth.min()), float(depth.max())
    if not high > low:
        return depth
    values: FloatArray = (depth - low) / (high - low)
    frames = len(depth)
    if rng.chance(0.6):  # each frame is estimated separately, with its own scale and offset
        scale, offset = rng.array((2, frames, 1, 1), -1.0, 1.0).astype(np.float32) * rng.uniform(0.0, 0.08)
        values = values * (1 + scale) + offset
    if rng.chance(0.7):
        waves = rng.uniform(0.0, 0.12) * _smooth_noise(rng, depth.shape, frames=4, pixels=24)
        values = values * (1 + waves) if rng.chance(0.5) else values + waves
    if rng.chance(0.6):
        width = rng.uniform(0.5, 2.0)
        values = ndimage.gaussian_filter(values, (0, width, width), truncate=2.0, mode="nearest")
    if rng.chance(0.4):
        values = values + rng.array(depth.shape, -1.0, 1.0).astype(np.float32) * rng.uniform(0.0, 0.05)
    values = draw_depth_curve(rng)(np.clip(values, 0.0, 1.0))
    if rng.chance(0.4):
        steps = rng.choice((15, 31, 63, 255))
        values = (np.round(values * steps) / steps).astype(np.float32)
    return np.clip(values, 0.0, 1.0)


def draw_depth_curve(rng: Rng) -> Callable[[FloatArray], FloatArray]:
    """Draw an increasing function from [0, 1] onto [0, 1] for depth where nearer is larger.

    One of four, equally likely: the identity; a gamma curve; the map from inverse to negated distance; the map from
    negated to inverse distance.
    """
    kind = rng.choice(("plain", "gamma", "turned", "inverse"))
    if kind == "plain":
        return lambda values: values
    if kind == "gamma":
        exponent = 2.0 ** rng.uniform(-1.3, 1.3)
        return lambda values: values**exponent
    nearest = rng.uniform(0.1, 0.6)
    if kind == "turned":
        return lambda values: values * (1 + nearest) / (values + nearest)
    return lambda values: values * nearest / (1 + nearest - values)


def _around(places: npt.NDArray[np.intp]) -> slice:
    """Slice from the first to the last index, padded by the margin on both sides."""
    return slice(max(0, int(places[0]) - _MARGIN), int(places[-1]) + 1 + _MARGIN)


def _smooth_noise(rng: Rng, shape: tuple[int, ...], *, frames: int, pixels: int) -> FloatArray:
    """Noise in [-1, 1], float32 ``[F, H, W]``: draws on a grid of the given spacing, linearly interpolated."""
    cells = (frames, pixels, pixels)
    counts = tuple(-(-size // cell) + 2 for size, cell in zip(shape, cells, strict=True))
    draws = torch.from_numpy(rng.array(counts, -1.0, 1.0).astype(np.float32))
    full = [(count - 1) * cell + 1 for count, cell in zip(counts, cells, strict=True)]
    noise = functional.interpolate(draws[None, None], full, mode="trilinear", align_corners=True)[0, 0].numpy()
    starts = [rng.integer(0, cell - 1) for cell in cells]  # random offset of the grid
    cut: FloatArray = noise[tuple(slice(start, start + size) for start, size in zip(starts, shape, strict=True))]
    return cut
