"""Masks: run-length encoding, resizing, interpolation over time, cut-outs, and depth relative to the object."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, TypedDict

import numpy as np
import numpy.typing as npt
from pycocotools import mask as coco
from scipy import ndimage

from amodal_diffusion.basics import InputError
from amodal_diffusion.types import BoolArray, FloatArray, UInt8Array

WHITE = 255
FIXED_POINT = 2048
"""Fixed-point value of 1 in the weights of `resize_masks`."""
MAX_PIXELS = 2**28
"""Pixels of a frame; 16,384 x 16,384. Run lengths of a few bytes can claim any size, and would be decoded to it."""
_MAX_DIGITS = 7  # per run: up to 2^34 pixels, more than any image has
Indices = npt.NDArray[np.int64]
Weights = npt.NDArray[np.int32]


class Rle(TypedDict):
    """A run-length encoded mask in the COCO format: ``size`` is [H, W], ``counts`` the compressed runs."""

    size: list[int]
    counts: str


def encode_rle(mask: BoolArray) -> Rle:
    """Encode a mask, bool ``[H, W]``, as a JSON-ready COCO RLE."""
    coded = coco.encode(np.asfortranarray(mask, dtype=np.uint8))
    return {"size": [int(side) for side in coded["size"]], "counts": coded["counts"].decode("ascii")}


def decode_rle(rle: Rle) -> BoolArray:
    """Decode a COCO RLE to a mask, bool ``[H, W]``.

    Raises:
        InputError: if the value is not a COCO RLE or its runs do not fill its size.
    """
    runs = check_rle(rle)
    height, width = rle["size"]
    return np.ascontiguousarray(np.repeat(np.arange(len(runs)) % 2 == 1, runs).reshape(width, height).T)


def check_rle(rle: Rle) -> Indices:
    """Check a COCO RLE without decoding it; a valid RLE is safe to pass to pycocotools.

    Returns:
        run lengths, alternately of 0 and 1, int64.

    Raises:
        InputError: if the value is not a COCO RLE or its runs do not fill its size.
    """
    size, counts = rle.get("size"), rle.get("counts")
    if (
        not isinstance(size, list)
        or len(size) != 2
        or not all(isinstance(side, int) and side > 0 for side in size)
        or not isinstance(counts, str)
    ):
        raise InputError(f"rle: expected size [H, W] and a counts string, got size {size!r}, counts {counts!r:.40}")
    if size[0] * size[1] > MAX_PIXELS:
        raise InputError(f"rle: expected a mask of at most {MAX_PIXELS:,} pixels, got {size[0]} x {size[1]}")
    runs = _runs(counts)
    if runs is None or runs.sum() != size[0] * size[1]:
        covered = "a text that is no run lengths" if runs is None else f"{runs.sum()}"
        raise InputError(
            f"rle: expected runs that fill {size[0]} x {size[1]} = {size[0] * size[1]} pixels, got {covered}; "
            f"the file is damaged or size does not belong to counts"
        )
    return runs


def merge_rle(first: Rle, second: Rle) -> Rle:
    """Union of two masks that passed :func:`check_rle`, without decoding them."""
    merged = coco.merge([_bytes(first), _bytes(second)])
    return {"size": [int(side) for side in merged["size"]], "counts": merged["counts"].decode("ascii")}


def rle_area(rle: Rle) -> int:
    """Number of pixels of a mask that passed :func:`check_rle`."""
    return int(coco.area(_bytes(rle)))


def rle_box(rle: Rle) -> tuple[float, float, float, float]:
    """Smallest box x, y, width, height around a mask that passed :func:`check_rle`; all 0 if it is empty."""
    x, y, width, height = (float(side) for side in coco.toBbox(_bytes(rle)))
    return x, y, width, height


def hidden_share(modal: BoolArray, amodal: BoolArray) -> float:
    """Occluded share of an object: 1 minus its visible share, averaged over the frames that contain it.

    Args:
        modal: modal (visible) masks, bool ``[F, H, W]``.
        amodal: amodal masks, bool ``[F, H, W]``.

    Returns:
        0 to 1; 0 if the object is in no frame.
    """
    whole = amodal.sum(axis=(1, 2))
    there = whole > 0
    seen = (modal & amodal).sum(axis=(1, 2))[there]
    return float((1 - seen / whole[there]).mean()) if there.any() else 0.0


def resize_masks(masks: BoolArray, height: int, width: int) -> BoolArray:
    """Resize masks bilinearly without antialiasing and threshold them at 0.5 (docs/method.md, section 8).

    All published figures were scored on masks resized in 8-bit fixed point, whose truncated products move the border of
    a mask by up to a pixel and mIoU by a thousandth. This function reproduces that arithmetic exactly.

    Args:
        masks: bool ``[F, H, W]``.
        height: rows of the result.
        width: columns of the result.

    Returns:
        bool ``[F, height, width]``.
    """
    if masks.shape[1:] == (height, width):
        return masks.copy()
    top, bottom, above, below = _neighbors(masks.shape[1], height, clamp=False)
    left, right, before, after = _neighbors(masks.shape[2], width, clamp=True)
    resized = np.empty((len(masks), height, width), dtype=np.bool_)
    for frame, mask in enumerate(masks):  # one frame at a time: int32 masks of a long 4K clip would not fit
        values = mask.astype(np.int32)
        rows = (values[:, left] * before + values[:, right] * after) >> 4  # [H, width]
        upper, lower = (rows[top] * above[:, None]) >> 16, (rows[bottom] * below[:, None]) >> 16
        resized[frame] = (upper + lower + 2) >> 2 > 0  # [height, width]
    return resized


def bounds(values: npt.NDArray[Any]) -> tuple[tuple[int, int], tuple[int, int]]:
    """Rows and columns of the box of the nonzero values of ``[H, W]``: first, one past the last; 0 and 0 if none."""
    columns = np.flatnonzero(values.any(axis=0))
    if not len(columns):
        return (0, 0), (0, 0)
    rows = np.flatnonzero(values.any(axis=1))
    return (int(rows[0]), int(rows[-1]) + 1), (int(columns[0]), int(columns[-1]) + 1)


def shrunk_mask(mask: BoolArray, pixels: int, *, inside: tuple[slice, slice] | None = None) -> BoolArray:
    """Erode a mask from its outline inward, but not along the border of the frame, where nothing hides the object.

    Args:
        mask: bool ``[H, W]``.
        pixels: distance from the nearest pixel outside up to which pixels are removed; less in a mask of which nothing
            would be left. 0 returns the mask itself.
        inside: rows and columns of the frame, if margins surround it; the mask lies inside.
    """
    if not pixels:
        return mask
    frame = mask if inside is None else mask[inside]
    (top, bottom), (left, right) = bounds(frame)
    box = slice(max(0, top - 1), bottom + 1), slice(max(0, left - 1), right + 1)
    part = frame[box]
    if not bottom or part.all():  # no mask at all, or one that fills the frame
        return mask
    distance = ndimage.distance_transform_edt(part)
    kept = np.zeros_like(mask)
    (kept if inside is None else kept[inside])[box] = distance > min(pixels, distance.max() - 1)
    return kept


def cut_out_on_white(rgb: UInt8Array, mask: BoolArray) -> UInt8Array:
    """The image inside the mask, white outside.

    Args:
        rgb: uint8 ``[F, H, W, 3]``.
        mask: bool ``[F, H, W]``.
    """
    return np.where(mask[..., None], rgb, np.uint8(WHITE))


def compose_rgba(
    rgb: UInt8Array, visible_mask: BoolArray, completed_rgb: UInt8Array, amodal_mask: BoolArray
) -> UInt8Array:
    """RGBA layer of an object: its visible pixels exactly as in the input, its hidden pixels as completed.

    Args:
        rgb: input frames, uint8 ``[F, H, W, 3]``.
        visible_mask: modal masks, bool ``[F, H, W]``.
        completed_rgb: completed object, uint8 ``[F, H, W, 3]``.
        amodal_mask: amodal masks, bool ``[F, H, W]``; pixels of `visible_mask` are added.

    Returns:
        uint8 ``[F, H, W, 4]``; alpha is 255 on the object, and all four channels are 0 outside.
    """
    rgba = np.zeros((*amodal_mask.shape, 4), dtype=np.uint8)
    for mask, picture in ((amodal_mask & ~visible_mask, completed_rgb), (visible_mask, rgb)):
        rgba[mask, :3] = picture[mask]
        rgba[mask, 3] = 255
    return rgba


def _bytes(rle: Rle) -> dict[str, object]:
    """An RLE in the form that pycocotools expects."""
    return {"size": rle["size"], "counts": rle["counts"].encode("ascii")}


def _neighbors(source: int, target: int, *, clamp: bool) -> tuple[Indices, Indices, Weights, Weights]:
    """The two source pixels around each target pixel's center and their weights in 1/2048, each ``[target]``.

    Args:
        source: pixels along the axis before.
        target: pixels along the axis after.
        clamp: whether a center beyond the outermost source pixels gives all weight to one of them.
    """
    center = ((np.arange(target) + 0.5) * (source / target) - 0.5).astype(np.float32)
    first = np.floor(center).astype(np.int64)
    part = center - first.astype(np.float32)
    if clamp:
        part[(first < 0) | (first >= source - 1)] = 0
    second = np.clip(first + 1, 0, source - 1)
    first = np.clip(first, 0, source - 1)
    one = np.float32(FIXED_POINT)
    weights = np.rint((1 - part) * one).astype(np.int32), np.rint(part * one).astype(np.int32)
    return first, second, *weights


def _runs(counts: str) -> Indices | None:
    """Run lengths, alternately of 0 and 1, of a compressed COCO string; None if it is invalid.

    Each run is a signed number in base-32 digits, least significant first, one 6-bit character from '0' per digit. From
    the fourth run on, the number is the difference to the run two places earlier. This replaces the decoder of
    pycocotools, which reads and writes past its buffers if a string is damaged.
    """
    codes = np.frombuffer(counts.encode("utf-8", "surrogatepass"), np.uint8).astype(np.int64) - 48
    ends = np.flatnonzero((codes & 32) == 0)
    if ((codes < 0) | (codes > 63)).any() or len(ends) == 0 or ends[-1] != len(codes) - 1:
        return None
    starts = np.append(0, ends[:-1] + 1)
    digits = ends - starts + 1
    if digits.max() > _MAX_DIGITS:
        return None
    places = np.arange(len(codes)) - np.repeat(starts, digits)
    values = np.add.reduceat((codes & 31) << (5 * places), starts)
    runs = np.where(codes[ends] & 16, values - (1 << (5 * digits)), values)
    for first in (1, 2):
        runs[first::2] = np.cumsum(runs[first::2])
    return None if runs.min() < 0 else runs


def object_depth(modal: BoolArray, depth: FloatArray, quantile: float) -> float | None:
    """Depth of an object in one frame: a quantile of the depth of its visible pixels.

    Args:
        modal: modal (visible) mask, bool ``[H, W]``.
        depth: any scale, nearer is larger, float32 ``[H, W]``.
        quantile: in [0, 1]: 0.5 is the median; less is farther, for tilted objects and noisy depth.

    Returns:
        the depth; None if the object is not visible.
    """
    return float(np.quantile(depth[modal], quantile)) if modal.any() else None


def nearer_pixels(modal: BoolArray, depth: FloatArray, quantile: float = 0.5) -> BoolArray:
    """Pixels that are nearer than the object, see :func:`object_depth`.

    If a frame does not show the object, its depth is taken from the nearest frame (the earlier of two) that does.

    Args:
        modal: modal (visible) masks, bool ``[F, H, W]``.
        depth: any scale, nearer is larger, float32 ``[F, H, W]``.
        quantile: as for :func:`object_depth`.

    Returns:
        bool ``[F, H, W]``; all False if the object is never visible.

    Raises:
        InputError: if the shapes differ.
    """
    if depth.shape != modal.shape:
        raise InputError(f"depth: expected the modal mask's shape {list(modal.shape)}, got {list(depth.shape)}")
    places = nearest_known([object_depth(*frame, quantile) for frame in zip(modal, depth, strict=True)])
    return np.stack(
        [np.zeros_like(frame, dtype=np.bool_) if place is None else frame > place
         for frame, place in zip(depth, places, strict=True)]
    )  # fmt: skip


def nearest_known(values: Sequence[float | None], before: float | None = None) -> list[float | None]:
    """Replace unknown values of frames by that of the nearest frame (the earlier of two) with a known one.

    Args:
        values: one per frame; None if unknown.
        before: value to use if no frame has one.
    """
    known = [index for index, value in enumerate(values) if value is not None]
    if not known:
        return [before] * len(values)
    return [values[min(known, key=lambda other: abs(other - index))] for index in range(len(values))]


def fill_between(masks: Mapping[int, BoolArray]) -> dict[int, BoolArray]:
    """Interpolate masks in the frames between the first and the last mask.

    Between two masks, the shape is the mean of their signed distances, each shifted to the interpolated center. Image
    content is ignored, so the result needs a visual check. Between a mask and an empty one, masks are empty.

    Args:
        masks: mask by frame number, bool ``[H, W]``, all of one size; at least one.

    Returns:
        a mask for every frame from the first to the last; given masks are unchanged.
    """
    frames = sorted(masks)
    filled = {frames[-1]: masks[frames[-1]]}
    for first, last in pairwise(frames):
        filled[first] = masks[first]
        for frame in range(first + 1, last):
            filled[frame] = _between(masks[first], masks[last], (frame - first) / (last - first))
    return dict(sorted(filled.items()))


def _between(first: BoolArray, last: BoolArray, share: float) -> BoolArray:
    if not (first.any() and last.any()):
        return np.zeros_like(first)
    centers = [np.argwhere(mask).mean(axis=0) for mask in (first, last)]
    center = (1 - share) * centers[0] + share * centers[1]
    distances = [
        ndimage.shift(_signed_distance(mask), center - own, order=1, mode="nearest")
        for mask, own in zip((first, last), centers, strict=True)
    ]
    return np.asarray((1 - share) * distances[0] + share * distances[1] > 0)


def _signed_distance(mask: BoolArray) -> FloatArray:
    """Signed distance to the outline in pixels, positive inside; float32 ``[H, W]``."""
    inside, outside = ndimage.distance_transform_edt(mask), ndimage.distance_transform_edt(~mask)
    return np.asarray(inside - outside, np.float32)
