"""Which tracks of a run are shown, and their pictures: the worst, those in the middle, the best."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from amodal_diffusion.evaluation.results import SkippedTrack
from amodal_diffusion.evaluation.running import Run
from amodal_diffusion.evaluation.summary import RunSummary, TrackMeans
from amodal_diffusion.evaluation.track_pictures import draw_track, jpeg
from amodal_diffusion.types import UInt8Array
from amodal_diffusion.video.contact_sheet import stack_sheets
from amodal_diffusion.video.masks import decode_rle

SHEET = "contact_sheet.jpg"
WORST, OTHERS = 6, 2
"""How many of the worst tracks are shown at most, and of those in the middle and the best each."""
Place = Literal["worst", "median", "best"]


@dataclass(frozen=True)
class ShownTrack:
    """A track with its picture.

    Attributes:
        place: where it stands in the ranking.
        means: its scores.
        sheet: uint8 ``[h, w, 3]``.
    """

    place: Place
    means: TrackMeans
    sheet: UInt8Array


def choose_shown(summary: RunSummary, run: Run) -> list[ShownTrack]:
    """Choose tracks from the ranking and draw them, the worst first; none is shown twice.

    Args:
        summary: ranks them.
        run: has their frames, and the masks that were predicted, of which the first sample is drawn.
    """
    ranking = summary.ranking()
    middle = max(0, (len(ranking) - OTHERS) // 2)
    wanted: list[tuple[Place, Sequence[TrackMeans]]] = [
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
                shown.append(ShownTrack(place, means, _sheet(means, run)))
    return shown


def write_contact_sheet(shown: Sequence[ShownTrack], path: Path) -> None:
    """Write the best, median and worst tracks as one picture.

    Args:
        shown: what to write; nothing is written where that is nothing.
        path: a JPEG file.
    """
    chosen = [track for place in ("best", "median", "worst") for track in _of(shown, place)[:OTHERS]]
    if chosen:
        sheets = [(f"{track.place}: {track.means.identity}", track.sheet) for track in chosen]
        path.write_bytes(jpeg(stack_sheets(sheets)))


def _of(shown: Sequence[ShownTrack], place: str) -> list[ShownTrack]:
    return [track for track in shown if track.place == place]


def _sheet(means: TrackMeans, run: Run) -> UInt8Array:
    result = run.store.read(means.index)
    if isinstance(result, SkippedTrack):
        raise RuntimeError(f"{means.identity}: was scored and is now left out")
    masks = {
        name: np.stack([decode_rle(mask) for mask in method.samples[0].masks])
        for name, method in result.methods.items()
    }
    return draw_track(run.benchmark.track(means.index), masks)
