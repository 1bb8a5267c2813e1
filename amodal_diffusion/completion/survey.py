"""Survey of objects before their completion: where each may be occluded, and where its crops lie."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import repeat
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from amodal_diffusion.completion.inputs import CompletionInputs
from amodal_diffusion.completion.request import CompletionRequest
from amodal_diffusion.io.background import read_ahead
from amodal_diffusion.io.mask_files import MaskTrack
from amodal_diffusion.types import BoolArray, FloatArray

if TYPE_CHECKING:
    from amodal_diffusion.frames.crop import CropCenter
    from amodal_diffusion.pipelines.completer import CompletionConfig
    from amodal_diffusion.pipelines.occlusion_intervals import IntervalFrame, OcclusionIntervals


@dataclass(frozen=True)
class Survey:
    """What is known of an object before its completion, from the masks of all frames.

    Attributes:
        intervals: frames in which it may be occluded, found inside the frame, without margins; None for all frames.
        centers: of its crops, one per frame.
    """

    intervals: OcclusionIntervals | None
    centers: list[CropCenter]

    @property
    def candidates(self) -> int:
        """Number of frames in which the object may be occluded."""
        return len(self.centers) if self.intervals is None else sum(self.intervals.candidate_frames())


def survey_objects(
    tracks: Sequence[MaskTrack], inputs: CompletionInputs, config: CompletionConfig, request: CompletionRequest
) -> dict[str, Survey]:
    """Look at all frames of some objects, by name; every mask and every depth map is decoded once."""
    from amodal_diffusion.frames.crop import BoxTrack
    from amodal_diffusion.pipelines.occlusion_intervals import IntervalFinder, OcclusionIntervals

    skipping, found = config.skip_unoccluded, {}
    boxes = {track.name: BoxTrack() for track in tracks}
    finders = {name: IntervalFinder(beyond=request.output.margin > 0, cuts=inputs.cuts) for name in boxes}
    wholes = {name: iter(inputs.whole[name]) for name in boxes if name in inputs.whole}
    maps = iter(inputs.depth) if skipping and inputs.depth is not None else repeat(None)
    occluders = skipping and inputs.depth is None and len(wholes) < len(tracks)
    read = inputs.tracks if occluders else tuple(tracks)
    with closing(read_ahead(zip(maps, *read, strict=False))) as frames:  # maps may be endless
        for values, *masks in frames:
            visible = dict(zip((track.name for track in read), masks, strict=True))
            count = functools.reduce(np.add, masks, np.zeros(masks[0].shape, np.uint16)) if occluders else None
            for name, box in boxes.items():
                whole = next(wholes[name]) if name in wholes else None
                box.add(visible[name] if whole is None else visible[name] | whole)
                if skipping:
                    finders[name].add(_evidence(visible[name], whole, values, count, inside=inputs.canvas.inside))
    for track in tracks:
        box, whole_track = boxes[track.name], inputs.whole.get(track.name)
        if skipping:
            intervals: OcclusionIntervals | None = finders[track.name].finish()
        else:
            areas = zip(track.areas, repeat(0) if whole_track is None else whole_track.areas, strict=False)
            intervals = OcclusionIntervals.of_shots([sum(pair) > 0 for pair in areas], inputs.cuts)
        found[track.name] = Survey(intervals, box.centers(cuts=inputs.cuts))
    return found


def _evidence(
    modal: BoolArray,
    whole: BoolArray | None,
    depth: FloatArray | None,
    count: npt.NDArray[np.uint16] | None,
    *,
    inside: tuple[slice, slice],
) -> IntervalFrame:
    """What tells in a frame whether an object is hidden.

    Args:
        modal: visible part, bool ``[H, W]``, like the following with margins.
        whole: the whole object, if it is given.
        depth: of the frame, if it is known.
        count: number of objects that are visible at each pixel, uint16, if there is no depth.
        inside: rows and columns without the margins.
    """
    from amodal_diffusion.pipelines.occlusion_intervals import IntervalFrame

    if whole is not None:
        return IntervalFrame(modal, whole=whole)
    if depth is not None:
        return IntervalFrame(modal[inside], depth=depth[inside])
    return IntervalFrame(modal[inside], others=None if count is None else (count[inside] > modal[inside]))
