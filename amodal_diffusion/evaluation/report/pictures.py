"""Pictures of the report: which tracks are shown, and a sheet of frames, truth and predictions for each."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image, ImageDraw

from amodal_diffusion.evaluation.benchmarks.base import Benchmark, BoxTarget, MaskTarget, Target
from amodal_diffusion.evaluation.results import ResultStore, SkippedTarget
from amodal_diffusion.evaluation.summary import RunSummary, TargetMeans
from amodal_diffusion.frames.drawing import OverlayLayer, SheetRow, draw_overlay, draw_sheet, stack_sheets
from amodal_diffusion.frames.masks import cut_out_on_white, decode_rle
from amodal_diffusion.metrics import boxes_of
from amodal_diffusion.types import BoolArray, FloatArray, UInt8Array

SHEET = "contact_sheet.jpg"
WORST, OTHERS = 6, 2
"""Most tracks shown of the worst, and of the median and the best each."""
Place = Literal["worst", "median", "best"]
COLUMNS = 5
_PICTURE_WIDTH = 256
_BOX_COLOR = (255, 255, 255)
_QUALITY = 88


@dataclass(frozen=True)
class ShownTarget:
    """A track that the report shows.

    Attributes:
        place: its part of the ranking.
        means: its scores.
        sheet: its picture, uint8 ``[h, w, 3]``.
    """

    place: Place
    means: TargetMeans
    sheet: UInt8Array


def choose_shown(summary: RunSummary, benchmark: Benchmark, store: ResultStore) -> list[ShownTarget]:
    """Choose tracks from the ranking and draw them, the worst first; no track is shown twice.

    Args:
        summary: ranks the tracks.
        benchmark: gives their frames.
        store: gives the predicted masks, of which the first sample is drawn.
    """
    ranking = summary.ranking()
    middle = max(0, (len(ranking) - OTHERS) // 2)
    wanted: list[tuple[Place, Sequence[TargetMeans]]] = [
        ("worst", ranking[: min(WORST, -(-len(ranking) // 3))]),
        ("best", ranking[::-1][:OTHERS]),
        ("median", ranking[middle : middle + OTHERS]),
    ]
    taken: set[int] = set()
    shown = []
    for place, tracks in wanted:
        for means in tracks:
            if means.index not in taken:
                taken.add(means.index)
                shown.append(ShownTarget(place, means, _sheet(means, benchmark, store)))
    return shown


def write_contact_sheet(shown: Sequence[ShownTarget], path: Path) -> None:
    """Write the best, median and worst tracks as one picture.

    Args:
        shown: the tracks of the report; no file is written if there are none.
        path: a JPEG file.
    """
    chosen = [track for place in ("best", "median", "worst") for track in _of(shown, place)[:OTHERS]]
    if chosen:
        sheets = [(f"{track.place}: {track.means.identity}", track.sheet) for track in chosen]
        path.write_bytes(jpeg(stack_sheets(sheets)))


def _of(shown: Sequence[ShownTarget], place: str) -> list[ShownTarget]:
    return [track for track in shown if track.place == place]


def _sheet(means: TargetMeans, benchmark: Benchmark, store: ResultStore) -> UInt8Array:
    result = store.read(means.index)
    if isinstance(result, SkippedTarget):
        raise RuntimeError(f"{means.identity}: was scored and is now left out")
    masks = {
        name: np.stack([decode_rle(mask) for mask in method.samples[0].masks])
        for name, method in result.methods.items()
    }
    return draw_track(benchmark.track(means.index), masks)


def draw_track(track: Target, predictions: Mapping[str, BoolArray]) -> UInt8Array:
    """Draw a track's sheet; hidden parts are striped, and boxes are drawn if the truth is boxes.

    Args:
        track: the target.
        predictions: amodal masks by method, bool ``[F, H, W]``.

    Returns:
        uint8 ``[h, w, 3]``.
    """
    clip = track.clip
    shown = np.unique(np.linspace(0, clip.num_frames - 1, COLUMNS).round().astype(int))
    boxed = isinstance(track, BoxTarget)

    def masked(masks: BoolArray) -> list[UInt8Array]:
        boxes = boxes_of(masks)
        return [_picture(clip.rgb[f], clip.modal_mask[f], masks[f], boxes[f] if boxed else None) for f in shown]

    visible = cut_out_on_white(clip.rgb, clip.modal_mask)
    rows = [
        SheetRow("frame", [_picture(clip.rgb[f]) for f in shown]),
        SheetRow("visible", [_picture(visible[f]) for f in shown]),
    ]
    if isinstance(track, MaskTarget):
        rows.append(SheetRow("truth", masked(track.amodal_mask)))
    if isinstance(track, BoxTarget):
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
    ImageDraw.Draw(picture).rectangle(corners, outline=_BOX_COLOR, width=2)
    return np.asarray(picture)


def _resized(mask: BoolArray, height: int, width: int) -> BoolArray:
    picture = Image.fromarray(mask.astype(np.uint8) * np.uint8(255))
    resampling = Image.Resampling.NEAREST if width >= mask.shape[1] else Image.Resampling.BOX
    return np.asarray(picture.resize((width, height), resampling)) >= 128
