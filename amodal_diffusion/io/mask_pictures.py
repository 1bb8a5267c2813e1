"""Mask pictures, and what their values mean: one object, soft edges, labels, colors of a palette, or alpha."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from amodal_diffusion.basics import InputError
from amodal_diffusion.config import MaskType
from amodal_diffusion.io.picture_depth import DeepFrame
from amodal_diffusion.io.pictures import stored_frames
from amodal_diffusion.types import BoolArray, UInt8Array

SINGLE = "1"
"""Name of the object where masks hold only one."""
_LARGEST_LABEL = 255
_VOID_COLOR, _VOID_INDEX = 0xE0E0C0, 255  # of PASCAL VOC and DAVIS: belongs to no object
_BLACK = 8  # a background may be a little brighter than 0

Values = npt.NDArray[np.uint32]
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class MaskPicture:
    """One frame of a mask file.

    Attributes:
        values: gray values, or indices of a palette, ``[H, W]``.
        top: largest value that the format holds: 1, 255 or 65535.
        palette: packed color (red first) of each index; None for gray.
        alpha: uint8 ``[H, W]``; None without an alpha channel.
    """

    values: npt.NDArray[np.uint16]
    top: int
    palette: Values | None = None
    alpha: UInt8Array | None = None

    @property
    def gray(self) -> npt.NDArray[np.uint32]:
        """Gray value of each pixel; that of its color, from 0 to 255, in a picture with a palette."""
        gray = self.values.astype(np.uint32) if self.palette is None else self.colors & np.uint32(0xFF)
        return np.asarray(gray, np.uint32)

    @property
    def gray_top(self) -> int:
        """The largest possible gray value."""
        return self.top if self.palette is None else 255

    @property
    def colors(self) -> Values:
        """Packed color of each pixel, uint32 ``[H, W]``; gray values of 8 bits are colors too."""
        if self.palette is None:
            return np.asarray(self.values.astype(np.uint32) * 0x010101, np.uint32)
        known = np.minimum(self.values, len(self.palette) - 1)
        return np.asarray(self.palette[known], np.uint32)


@dataclass(frozen=True)
class MaskObject:
    """One object of mask pictures.

    Attributes:
        name: the object's ID.
        areas: pixels inside the mask, per frame.
        select: bool ``[H, W]`` of a frame.
    """

    name: str
    areas: tuple[int, ...]
    select: Callable[[MaskPicture], BoolArray]


@dataclass(frozen=True)
class MaskReading:
    """What mask pictures were read as.

    Attributes:
        kind: ``binary``, ``soft``, ``labels``, ``colors`` or ``alpha``.
        objects: the objects, in no order.
        notice: what a user should know of the decision; empty where it is plain.
    """

    kind: str
    objects: tuple[MaskObject, ...]
    notice: str = ""


def mask_pictures(path: Path) -> Iterator[MaskPicture]:
    """The frames of a mask file; animations and multi-page files have several.

    Raises:
        InputError: if the file cannot be read, or its colors are no palette's.
    """
    for frame in stored_frames(path):
        yield _deep(frame.content, path) if isinstance(frame.content, DeepFrame) else _shallow(frame.content, path)


def read_meaning(
    pictures: Callable[[], Iterator[MaskPicture]], *, mask_type: MaskType | None, lossy: bool
) -> MaskReading:
    """Decide what the values of mask pictures mean; reads all of them once.

    Args:
        pictures: the masks of a clip, in order.
        mask_type: what they are by the user's word; decided by the pictures when None.
        lossy: the files' format changes values, so that they are no labels.

    Raises:
        InputError: if the pictures are not what the user says.
    """
    surveys = [_Survey(picture) for picture in pictures()]
    with_alpha = [survey.alpha_inside is not None for survey in surveys]
    if mask_type == "alpha" and not all(with_alpha):
        raise InputError("--mask-type alpha: expected masks with an alpha channel, got some without")
    if mask_type == "alpha" or (mask_type is None and all(with_alpha) and any(not entry.opaque for entry in surveys)):
        return _by_alpha(surveys)
    if any(survey.indexed for survey in surveys) and mask_type != "binary":
        colors = {color for survey in surveys for color in survey.colors}
        if any(not _is_gray(color) for color in colors):
            return _by_colors(surveys)
    return _by_values(surveys, mask_type, lossy=lossy)


class _Survey:
    """Which values and colors a picture holds, and how often."""

    def __init__(self, picture: MaskPicture) -> None:
        self.indexed = picture.palette is not None
        gray = picture.gray
        self.top = picture.gray_top
        self.counts = _counts(gray)
        plain = len(self.counts) <= 2 and self.counts.keys() <= {0, 1, self.top}
        self.wide = set() if plain else wide_values(gray)
        self.indices = _counts(picture.values)
        palette = picture.palette
        self.beyond = palette is not None and max(self.indices) >= len(palette)
        self.colors: dict[int, int] = _counts(picture.colors) if self.indexed else {}
        self.index_of = {} if palette is None else {int(palette[min(i, len(palette) - 1)]): i for i in self.indices}
        self.first_color = None if palette is None else int(palette[0])
        alpha = picture.alpha
        self.alpha_inside = None if alpha is None else int((alpha > 127).sum())
        self.opaque = alpha is None or bool((alpha == 255).all())


def wide_values(values: npt.NDArray[np.generic]) -> set[int]:
    """Values that fill a square of 3 x 3 pixels somewhere, which rims of soft edges do not.

    Args:
        values: integers ``[H, W]``.
    """
    rows = (values[:-2] == values[1:-1]) & (values[2:] == values[1:-1])
    middle = values[1:-1, 1:-1]
    columns = (values[1:-1, :-2] == middle) & (values[1:-1, 2:] == middle)
    square = rows[:, :-2] & rows[:, 1:-1] & rows[:, 2:] & columns
    return set(map(int, np.unique(middle[square])))


def stays(seen: Sequence[bool]) -> bool:
    """Whether what is seen in some frames of a clip is seen in two neighboring ones, or the clip has one frame."""
    return len(seen) == 1 or any(before and after for before, after in pairwise(seen))


def _by_alpha(surveys: Sequence[_Survey]) -> MaskReading:
    areas = tuple(survey.alpha_inside or 0 for survey in surveys)
    select = lambda picture: np.asarray(picture.alpha > 127, np.bool_)  # noqa: E731 - one line, used once
    return MaskReading("alpha", (MaskObject(SINGLE, areas, select),), "the alpha channel is the mask, cut at half")


def _by_values(surveys: Sequence[_Survey], mask_type: MaskType | None, *, lossy: bool) -> MaskReading:
    values = sorted({value for survey in surveys for value in survey.counts if value})
    binary = all(survey.counts.keys() <= {0, 1} for survey in surveys) or all(
        survey.counts.keys() <= {0, survey.top} for survey in surveys
    )
    if not values or (binary and mask_type != "labels"):
        areas = tuple(sum(count for value, count in survey.counts.items() if value) for survey in surveys)
        return MaskReading("binary", (MaskObject(SINGLE, areas, lambda picture: picture.gray > 0),))
    if mask_type == "labels" or (mask_type is None and not lossy and _are_labels(values, surveys)):
        return _labels(values, surveys)
    areas = tuple(sum(n for value, n in survey.counts.items() if value > survey.top // 2) for survey in surveys)
    select = lambda picture: picture.gray > picture.gray_top // 2  # noqa: E731
    notice = f"soft gray masks ({len(values) + 1} values), read as one object cut at half; see --mask-type"
    return MaskReading("soft", (MaskObject(SINGLE, areas, select),), "" if mask_type else notice)


def _are_labels(values: Sequence[int], surveys: Sequence[_Survey]) -> bool:
    """Whether values are labels: small, each with a region wider than 2 pixels, each in neighboring frames."""
    if values[-1] > _LARGEST_LABEL:
        return False
    return all(
        any(value in survey.wide for survey in surveys) and stays([value in survey.counts for survey in surveys])
        for value in values
    )


def _labels(values: Sequence[int], surveys: Sequence[_Survey]) -> MaskReading:
    others = [value for value in values if value != _VOID_INDEX]
    void = _VOID_INDEX in values and bool(others) and max(others) < 64
    notice = ""
    if void:
        pixels = sum(survey.counts.get(_VOID_INDEX, 0) for survey in surveys)
        notice = f"{pixels} pixels of the value {_VOID_INDEX} are void and belong to no object"
    objects = [
        MaskObject(
            str(value),
            tuple(survey.counts.get(value, 0) for survey in surveys),
            lambda picture, value=value: picture.gray == value,  # type: ignore[misc]  # bound per value
        )
        for value in (others if void else values)
    ]
    return MaskReading("labels", tuple(objects), notice)


def _by_colors(surveys: Sequence[_Survey]) -> MaskReading:
    """Objects by the colors of a palette; by indices where colors do not tell indices apart."""
    if any(survey.beyond or len(survey.index_of) < len(survey.indices) for survey in surveys if survey.indexed):
        return _by_indices(surveys)
    used: Counter[int] = Counter()
    for survey in surveys:
        used.update(survey.colors)
    black = [color for color in used if max(color >> 16, color >> 8 & 255, color & 255) < _BLACK]
    background = set(black) if black else {color for color in [surveys[0].first_color] if color is not None}
    void = {color for color in used if color == _VOID_COLOR}
    for survey in surveys:
        if len(survey.indices) >= 3:
            void |= {color for color, index in survey.index_of.items() if index == _VOID_INDEX}
    names = _names_of_colors([color for color in used if color not in background | void], surveys)
    objects = [
        MaskObject(
            name,
            tuple(survey.colors.get(color, 0) for survey in surveys),
            lambda picture, color=color: picture.colors == color,  # type: ignore[misc]  # bound per color
        )
        for color, name in names.items()
    ]
    pixels = sum(used[color] for color in void - background)
    return MaskReading("colors", tuple(objects), f"{pixels} void pixels belong to no object" if pixels else "")


def _names_of_colors(colors: Sequence[int], surveys: Sequence[_Survey]) -> dict[int, str]:
    """A color is named by its index in the first frame that has it, or by the next free number."""
    names: dict[int, str] = {}
    taken: set[int] = set()
    first = {color: next(s.index_of[color] for s in surveys if color in s.index_of) for color in colors}
    for color, index in first.items():
        number = index
        while number in taken or number == 0:
            number += 1
        taken.add(number)
        names[color] = str(number)
    return names


def _by_indices(surveys: Sequence[_Survey]) -> MaskReading:
    indices = sorted({index for survey in surveys for index in survey.indices if index})
    void = _VOID_INDEX in indices and len(indices) >= 2
    objects = [
        MaskObject(
            str(index),
            tuple(survey.indices.get(index, 0) for survey in surveys),
            lambda picture, index=index: picture.values == index,  # type: ignore[misc]  # bound per index
        )
        for index in indices
        if not (void and index == _VOID_INDEX)
    ]
    return MaskReading("labels", tuple(objects), "the palette has one color twice, so that its indices are the labels")


def _is_gray(color: int) -> bool:
    return color % 0x010101 == 0


def _counts(values: npt.NDArray[np.generic]) -> dict[int, int]:
    present, numbers = np.unique(values, return_counts=True)
    return dict(zip(map(int, present), map(int, numbers), strict=True))


def _shallow(picture: Image.Image, path: Path) -> MaskPicture:
    """A picture of 8 bits or fewer, or of 16-bit gray that Pillow holds."""
    array, mode = np.asarray(picture), picture.mode
    if mode == "1":
        return MaskPicture(array.astype(np.uint16), 1)
    if mode == "P":
        packed = np.frombuffer(bytes(picture.getpalette("RGB") or ()), np.uint8).reshape(-1, 3).astype(np.uint32)
        palette = np.asarray((packed[:, 0] << 16) | (packed[:, 1] << 8) | packed[:, 2], np.uint32)
        return MaskPicture(array.astype(np.uint16), 255, palette if len(palette) else np.zeros(1, np.uint32))
    if array.ndim == 2 and array.dtype.kind in "iub" and array.min() >= 0 and array.max() <= 65535:
        return MaskPicture(array.astype(np.uint16), 255 if array.dtype == np.uint8 else 65535)
    if mode in ("LA", "RGBA", "RGB", "PA"):
        alpha = array[..., -1] if mode in ("LA", "RGBA") else None
        colors = array if alpha is None else array[..., :-1]
        varies = alpha is not None and not bool((alpha == 255).all())
        if (colors != colors[..., :1]).any():
            if not varies:
                raise InputError(f"{path}: expected one channel, got {mode} colors; save labels as gray or palette PNG")
            colors = np.zeros_like(colors)
        return MaskPicture(colors[..., 0].astype(np.uint16), 255, None, alpha)
    raise InputError(f"{path}: expected a mask of 1, 8 or 16 bits, got {mode}; save it as PNG")


def _deep(frame: DeepFrame, path: Path) -> MaskPicture:
    values = frame.values
    if (values != values[..., :1]).any():
        raise InputError(f"{path}: expected one channel, got {frame.mode} colors; save labels as gray or palette PNG")
    single = values[..., 0]
    if frame.is_float:
        return MaskPicture(np.round(np.clip(single, 0.0, 1.0) * 65535).astype(np.uint16), 65535)
    return MaskPicture(single.astype(np.uint16), 65535)
