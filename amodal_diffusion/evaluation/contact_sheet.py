"""A picture that shows at a glance what was given, predicted, true and painted: rows of frames with labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from amodal_diffusion.types import AmodalResult, BoolArray, InputError, UInt8Array, VideoClip
from amodal_diffusion.video.masks import cut_out_on_white
from amodal_diffusion.video.overlay import OverlayLayer, draw_overlay

Picture = TypeVar("Picture", UInt8Array, BoolArray)

_GAP, _FONT_SIZE, _LABEL_WIDTH, _MOST_LABEL_WIDTH = 6, 18, 120, 240
_PAPER, _INK = (232, 232, 232), (30, 30, 30)  # paper darker than the white behind cut-out objects


@dataclass(frozen=True)
class SheetRow:
    """A labelled row.

    Attributes:
        label: what the row shows.
        pictures: uint8 ``[H, W, 3]``, one a column.
    """

    label: str
    pictures: Sequence[UInt8Array]


def draw_completion(
    clip: VideoClip, truth: BoolArray, result: AmodalResult, *, columns: int = 4, scale: int = 3
) -> UInt8Array:
    """Draw frames, visible part, predicted mask, true mask and completed object of one track.

    Args:
        clip: frames and modal mask.
        truth: the whole object, bool ``[F, H, W]``.
        result: the prediction; without painted content the last row is left out.
        columns: number of frames shown, evenly spread over the clip.
        scale: how many pixels a side a pixel becomes.

    Returns:
        the sheet, uint8 ``[h, w, 3]``.
    """
    shown = np.unique(np.linspace(0, clip.num_frames - 1, columns).round().astype(int))

    def masked(amodal: BoolArray) -> list[UInt8Array]:
        modal = clip.modal_mask
        layers = [OverlayLayer(_enlarge(modal[f], scale), _enlarge(amodal[f], scale)) for f in shown]
        return [draw_overlay(_enlarge(clip.rgb[f], scale), [layer]) for f, layer in zip(shown, layers, strict=True)]

    def plain(frames: UInt8Array) -> list[UInt8Array]:
        return [_enlarge(frames[f], scale) for f in shown]

    rows = [
        SheetRow("frame", plain(clip.rgb)),
        SheetRow("visible", plain(cut_out_on_white(clip.rgb, clip.modal_mask))),
        SheetRow("predicted", masked(result.amodal_mask)),
        SheetRow("truth", masked(truth)),
    ]
    if result.amodal_rgb is not None:
        rows.append(SheetRow("completed", plain(result.amodal_rgb)))
    return draw_sheet(rows, column_labels=[f"frame {f}" for f in shown])


def draw_sheet(rows: Sequence[SheetRow], *, column_labels: Sequence[str]) -> UInt8Array:
    """Lay rows of pictures out on paper, labels above the columns and left of the rows.

    Args:
        rows: all pictures of one size, as many in each row as there are column labels.
        column_labels: one a column.

    Returns:
        the sheet, uint8 ``[h, w, 3]``.

    Raises:
        InputError: if the pictures do not form a table.
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
    """Lay sheets under each other, each below its title.

    Args:
        sheets: titles and pictures uint8 ``[h, w, 3]``, at least one.

    Returns:
        uint8 ``[h, w, 3]``, as wide as the widest.
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
    """The end of a label that would be too wide: of a path, what tells it from others."""
    kept = label
    while font.getlength(kept) > _MOST_LABEL_WIDTH:
        kept = f"...{kept.removeprefix('...')[1:]}"
    return kept


def _enlarge(picture: Picture, scale: int) -> Picture:
    """Make each pixel a square of ``scale`` by ``scale``."""
    return picture.repeat(scale, axis=0).repeat(scale, axis=1)
