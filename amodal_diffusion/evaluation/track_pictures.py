"""Pictures of one track: its frames, what is visible, the truth, and what each method predicted."""

from __future__ import annotations

import io
from collections.abc import Mapping

import numpy as np
from PIL import Image, ImageDraw

from amodal_diffusion.evaluation.benchmark import BenchmarkTrack, BoxTrack, MaskTrack
from amodal_diffusion.metrics import boxes_of
from amodal_diffusion.types import BoolArray, FloatArray, UInt8Array
from amodal_diffusion.video.contact_sheet import SheetRow, draw_sheet
from amodal_diffusion.video.masks import cut_out_on_white
from amodal_diffusion.video.overlay import OverlayLayer, draw_overlay

COLUMNS = 5
_PICTURE_WIDTH = 256
_BOX_COLOUR = (255, 255, 255)
_QUALITY = 88


def draw_track(track: BenchmarkTrack, predictions: Mapping[str, BoolArray]) -> UInt8Array:
    """Draw a track's sheet; hidden parts are striped, and where boxes are the truth, boxes are drawn.

    Args:
        track: with its truth.
        predictions: whole masks by method, bool ``[F, H, W]``.

    Returns:
        uint8 ``[h, w, 3]``.
    """
    clip = track.clip
    shown = np.unique(np.linspace(0, clip.num_frames - 1, COLUMNS).round().astype(int))
    boxed = isinstance(track, BoxTrack)

    def masked(masks: BoolArray) -> list[UInt8Array]:
        boxes = boxes_of(masks)
        return [_picture(clip.rgb[f], clip.modal_mask[f], masks[f], boxes[f] if boxed else None) for f in shown]

    visible = cut_out_on_white(clip.rgb, clip.modal_mask)
    rows = [
        SheetRow("frame", [_picture(clip.rgb[f]) for f in shown]),
        SheetRow("visible", [_picture(visible[f]) for f in shown]),
    ]
    if isinstance(track, MaskTrack):
        rows.append(SheetRow("truth", masked(track.amodal_mask)))
    if isinstance(track, BoxTrack):
        rows.append(SheetRow("truth", [_picture(clip.rgb[f], box=track.amodal_boxes[f]) for f in shown]))
    rows += [SheetRow(name, masked(masks)) for name, masks in predictions.items()]
    return draw_sheet(rows, column_labels=[f"frame {f}" for f in shown])


def jpeg(picture: UInt8Array) -> bytes:
    """A picture as a JPEG file, small enough to lie in a page with many others.

    Args:
        picture: uint8 ``[h, w, 3]``.
    """
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, format="JPEG", quality=_QUALITY, subsampling=0)
    return buffer.getvalue()


def _picture(
    rgb: UInt8Array, modal: BoolArray | None = None, amodal: BoolArray | None = None, box: FloatArray | None = None
) -> UInt8Array:
    """One frame at the sheet's size: small ones in whole multiples, so that they stay sharp; lines are drawn last."""
    scale = _PICTURE_WIDTH / rgb.shape[1]
    scale = max(1, int(scale)) if scale >= 1 else scale
    height, width = (max(1, round(side * scale)) for side in rgb.shape[:2])
    resampling = Image.Resampling.NEAREST if scale >= 1 else Image.Resampling.LANCZOS
    drawn = np.asarray(Image.fromarray(rgb).resize((width, height), resampling))
    if modal is not None and amodal is not None:
        visible, whole = (_resized(mask, height, width) for mask in (modal, amodal))
        drawn = draw_overlay(drawn, [OverlayLayer(visible, whole)])
    if box is None or not (box[2:] > 0).all():
        return drawn
    picture = Image.fromarray(drawn)
    left, top, across, down = (float(side) * scale for side in box)
    corners = (left, top, left + max(across - 1, 0), top + max(down - 1, 0))
    ImageDraw.Draw(picture).rectangle(corners, outline=_BOX_COLOUR, width=2)
    return np.asarray(picture)


def _resized(mask: BoolArray, height: int, width: int) -> BoolArray:
    picture = Image.fromarray(mask.astype(np.uint8) * np.uint8(255))
    resampling = Image.Resampling.NEAREST if width >= mask.shape[1] else Image.Resampling.BOX
    return np.asarray(picture.resize((width, height), resampling)) >= 128
