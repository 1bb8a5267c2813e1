"""Drawings of results: overlays with outlines and striped hidden parts, uncertainty, and sheets of frames."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from amodal_diffusion.basics import InputError
from amodal_diffusion.frames.masks import cut_out_on_white
from amodal_diffusion.types import AmodalResult, BoolArray, FloatArray, UInt8Array, VideoClip

# Rare in nature, and easy to distinguish for most people on dark and bright images.
COLORS = (
    (255, 80, 170),
    (86, 200, 255),
    (255, 196, 0),
    (0, 220, 150),
    (255, 120, 60),
    (190, 140, 255),
    (90, 130, 255),
)


@dataclass(frozen=True)
class OverlayLayer:
    """Masks of one object in one frame.

    Attributes:
        visible: modal mask, bool ``[H, W]``.
        amodal: amodal mask, bool ``[H, W]``.
    """

    visible: BoolArray
    amodal: BoolArray


def draw_overlay(rgb: UInt8Array, layers: Sequence[OverlayLayer]) -> UInt8Array:
    """Draw all objects over a frame, each in its own color.

    Args:
        rgb: the frame, uint8 ``[H, W, 3]``.
        layers: one per object, in the same order in all frames; the index gives the color.

    Returns:
        uint8 ``[H, W, 3]``.
    """
    canvas = rgb.copy()
    height, width = rgb.shape[:2]
    line = max(1, round(min(height, width) / 260))
    for index, layer in enumerate(layers):
        _draw(canvas, layer, np.array(COLORS[index % len(COLORS)], np.float32), line)
    return canvas


def draw_uncertainty(probability: FloatArray) -> UInt8Array:
    """Draw where samples differ: black where all agree, white where half of them contain a pixel.

    Args:
        probability: share of the samples that contain a pixel, float32 ``[H, W]`` in [0, 1].

    Returns:
        uint8 ``[H, W, 3]``.
    """
    gray = np.rint(255 * (1 - np.abs(2 * probability - 1))).astype(np.uint8)
    return np.repeat(gray[..., None], 3, axis=-1)


def _draw(canvas: UInt8Array, layer: OverlayLayer, color: npt.NDArray[np.float32], line: int) -> None:
    """Draw one object in place, inside its bounding box only."""
    rows, columns = (np.flatnonzero((layer.visible | layer.amodal).any(axis=axis)) for axis in (1, 0))
    if not rows.size:
        return
    margin = 2 * line
    top, left = max(0, rows[0] - margin), max(0, columns[0] - margin)
    box = np.s_[top : rows[-1] + 1 + margin, left : columns[-1] + 1 + margin]
    visible, amodal, part = layer.visible[box], layer.amodal[box], canvas[box]

    hidden = amodal & ~visible
    across = np.add.outer(np.arange(part.shape[0]) + top, np.arange(part.shape[1]) + left)
    stripe = (across // (3 * line)) % 2 == 0
    _tint(part, hidden & stripe, color, 0.75)
    _tint(part, hidden & ~stripe, color, 0.4)

    edge = (amodal & ~_eroded(amodal, line)) | (visible & ~_eroded(visible, line))
    _tint(part, _grown(edge, max(1, line // 2)) & ~edge, np.zeros(3, np.float32), 0.6)  # for bright backgrounds
    _tint(part, edge, color, 1.0)


def _tint(part: UInt8Array, where: BoolArray, color: npt.NDArray[np.float32], strength: float) -> None:
    part[where] = np.rint(part[where] * (1 - strength) + color * strength).astype(np.uint8)


def _eroded(mask: BoolArray, steps: int) -> BoolArray:
    """Erode a mask by ``steps`` pixels, but not along the border of the array."""
    return ~_grown(~mask, steps)


def _grown(mask: BoolArray, steps: int) -> BoolArray:
    """Dilate a mask by ``steps`` pixels up, down, left and right."""
    for _ in range(steps):
        grown = mask.copy()
        grown[1:] |= mask[:-1]
        grown[:-1] |= mask[1:]
        grown[:, 1:] |= mask[:, :-1]
        grown[:, :-1] |= mask[:, 1:]
        mask = grown
    return mask


Picture = TypeVar("Picture", UInt8Array, BoolArray)

_GAP, _FONT_SIZE, _LABEL_WIDTH, _MOST_LABEL_WIDTH = 6, 18, 120, 240
_WIDTH = 320  # desired width in pixels of a frame in a result's sheet
_PAPER, _INK = (232, 232, 232), (30, 30, 30)  # paper darker than the white behind cut-out objects


@dataclass(frozen=True)
class SheetRow:
    """A labeled row of a sheet.

    Attributes:
        label: what the row shows.
        pictures: images, uint8 ``[H, W, 3]``, one per column.
    """

    label: str
    pictures: Sequence[UInt8Array]


def draw_completion(
    clip: VideoClip, truth: BoolArray, result: AmodalResult, *, columns: int = 4, scale: int = 3
) -> UInt8Array:
    """Draw frames, visible part, predicted mask, true mask and completed object of one track.

    Args:
        clip: frames and modal mask.
        truth: true amodal mask, bool ``[F, H, W]``.
        result: the prediction; without painted content, the last row is omitted.
        columns: number of frames shown, evenly spread over the clip.
        scale: factor by which images are enlarged.

    Returns:
        the sheet, uint8 ``[h, w, 3]``.
    """
    view = _View(_evenly(clip.num_frames, columns), scale=scale)
    rows = [
        *_given(clip, view),
        SheetRow("predicted", view.masked(clip, result.amodal_mask)),
        SheetRow("truth", view.masked(clip, truth)),
        *_painted(result, view),
    ]
    return draw_sheet(rows, column_labels=view.labels)


def draw_result(result: AmodalResult, clip: VideoClip | None = None, *, columns: int = 4) -> UInt8Array:
    """Draw a result as a sheet of frames, together with its clip if given.

    Args:
        result: result to draw; rows without data are omitted, and several samples add a row of their disagreement.
        clip: adds frames and the visible part; the amodal mask is then drawn over the frames.
        columns: number of frames shown, evenly spread over the clip.

    Returns:
        the sheet, uint8 ``[h, w, 3]``; frames are resized by an integer factor towards a width of 320 pixels.

    Raises:
        InputError: if the clip has another shape than the result.
    """
    shape = result.amodal_mask.shape
    if clip is not None and clip.modal_mask.shape != shape:
        raise InputError(f"clip: expected {list(shape)} to match the result, got {list(clip.modal_mask.shape)}")
    view = _View(_evenly(shape[0], columns), scale=max(1, _WIDTH // shape[2]), step=max(1, shape[2] // _WIDTH))
    rows = [] if clip is None else _given(clip, view)
    plain = np.where(result.amodal_mask[view.shown][..., None], np.uint8(255), np.uint8(0)).repeat(3, axis=-1)
    masks = [view.sized(frame) for frame in plain] if clip is None else view.masked(clip, result.amodal_mask)
    rows.append(SheetRow("amodal", masks))
    if result.samples is not None:
        doubt = 1 - np.abs(2 * result.probability[view.shown] - 1)  # 1 where half of the samples contain the pixel
        gray = np.rint(doubt * 255).astype(np.uint8)[..., None].repeat(3, axis=-1)
        rows.append(SheetRow("uncertain", [view.sized(frame) for frame in gray]))
    return draw_sheet([*rows, *_painted(result, view)], column_labels=view.labels)


@dataclass(frozen=True)
class _View:
    """Frames to show, and their size: every ``step``-th pixel, enlarged by ``scale``."""

    shown: list[int]
    scale: int
    step: int = 1

    @property
    def labels(self) -> list[str]:
        return [f"frame {frame}" for frame in self.shown]

    def sized(self, picture: Picture) -> Picture:
        return enlarge(picture[:: self.step, :: self.step], self.scale)

    def plain(self, frames: UInt8Array) -> list[UInt8Array]:
        return [self.sized(frames[frame]) for frame in self.shown]

    def masked(self, clip: VideoClip, amodal: BoolArray) -> list[UInt8Array]:
        layers = [OverlayLayer(self.sized(clip.modal_mask[f]), self.sized(amodal[f])) for f in self.shown]
        return [draw_overlay(rgb, [layer]) for rgb, layer in zip(self.plain(clip.rgb), layers, strict=True)]


def _evenly(num_frames: int, columns: int) -> list[int]:
    return [int(frame) for frame in np.unique(np.linspace(0, num_frames - 1, columns).round())]


def _given(clip: VideoClip, view: _View) -> list[SheetRow]:
    visible = cut_out_on_white(clip.rgb[view.shown], clip.modal_mask[view.shown])
    return [SheetRow("frame", view.plain(clip.rgb)), SheetRow("visible", [view.sized(frame) for frame in visible])]


def _painted(result: AmodalResult, view: _View) -> list[SheetRow]:
    return [] if result.amodal_rgb is None else [SheetRow("completed", view.plain(result.amodal_rgb))]


def draw_sheet(rows: Sequence[SheetRow], *, column_labels: Sequence[str]) -> UInt8Array:
    """Arrange rows of images on a sheet, with labels above the columns and left of the rows.

    Args:
        rows: images of one size, one per column label in each row.
        column_labels: one per column.

    Returns:
        the sheet, uint8 ``[h, w, 3]``.

    Raises:
        InputError: if the images do not form a table.
    """
    shapes = {picture.shape for row in rows for picture in row.pictures}
    if len(shapes) != 1 or {len(row.pictures) for row in rows} != {len(column_labels)}:
        raise InputError(
            f"rows: expected {len(column_labels)} pictures of one size in each, got "
            f"{[len(row.pictures) for row in rows]} of sizes {sorted(shapes)}"
        )
    height, width, _ = shapes.pop()
    top = _FONT_SIZE + 3 * _GAP
    font = ImageFont.load_default(_FONT_SIZE)
    labels = [_shortened(row.label, font) for row in rows]
    left = max(_LABEL_WIDTH, *(int(font.getlength(label)) + 4 * _GAP for label in labels))
    size = (left + len(column_labels) * (width + _GAP), top + len(rows) * (height + _GAP))
    sheet = Image.new("RGB", size, _PAPER)
    pen = ImageDraw.Draw(sheet)
    for column, label in enumerate(column_labels):
        x = left + column * (width + _GAP)
        pen.text((x + width / 2, top / 2), label, fill=_INK, font=font, anchor="mm")
        for line, row in enumerate(rows):
            sheet.paste(Image.fromarray(row.pictures[column]), (x, top + line * (height + _GAP)))
    for line, label in enumerate(labels):
        pen.text((2 * _GAP, top + line * (height + _GAP) + height / 2), label, fill=_INK, font=font, anchor="lm")
    return np.asarray(sheet)


def stack_sheets(sheets: Sequence[tuple[str, UInt8Array]]) -> UInt8Array:
    """Stack sheets vertically, each below its title.

    Args:
        sheets: titles and images uint8 ``[h, w, 3]``, at least one.

    Returns:
        uint8 ``[h, w, 3]``, as wide as the widest sheet.
    """
    head = _FONT_SIZE + 4 * _GAP
    width = max(sheet.shape[1] for _, sheet in sheets)
    paper = Image.new("RGB", (width, sum(head + sheet.shape[0] for _, sheet in sheets)), _PAPER)
    pen, font = ImageDraw.Draw(paper), ImageFont.load_default(_FONT_SIZE)
    top = 0
    for title, sheet in sheets:
        pen.rectangle((0, top, width, top + head), fill=_INK)
        pen.text((2 * _GAP, top + head / 2), title, fill=_PAPER, font=font, anchor="lm")
        paper.paste(Image.fromarray(sheet), (0, top + head))
        top += head + sheet.shape[0]
    return np.asarray(paper)


def _shortened(label: str, font: ImageFont.ImageFont | ImageFont.FreeTypeFont) -> str:
    """A label without its start if it is too wide; the end of a path distinguishes it from others."""
    kept = label
    while font.getlength(kept) > _MOST_LABEL_WIDTH:
        kept = f"...{kept.removeprefix('...')[1:]}"
    return kept


def enlarge(picture: Picture, scale: int) -> Picture:
    """Repeat each pixel ``scale`` times along both axes."""
    return picture.repeat(scale, axis=0).repeat(scale, axis=1)


def show_result(result: AmodalResult, clip: VideoClip | None = None, *, columns: int = 4) -> None:
    """Show a drawn result: in a notebook below the cell, otherwise in the system's image viewer.

    Args:
        result: see :func:`draw_result`.
        clip: the completed clip, drawn together with the result; None draws the result alone.
        columns: number of frames shown, evenly spread over the clip.

    Raises:
        InputError: if the clip has another shape than the result.
    """
    sheet = Image.fromarray(draw_result(result, clip, columns=columns))
    ipython = sys.modules.get("IPython")  # loaded wherever a notebook runs
    if ipython is not None and ipython.get_ipython() is not None:
        ipython.display.display(sheet)
    else:
        sheet.show()
