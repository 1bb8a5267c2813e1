"""The benchmark of TAO-Amodal's curated tracks: boxes of whole objects, which may leave the frame."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from amodal_diffusion.data.index import EntryIndex
from amodal_diffusion.data.tao_amodal import TaoRecord, parse_tao_record, read_first_tracks
from amodal_diffusion.evaluation.benchmarks.base import (
    BoxTarget,
    FileBenchmark,
    FrameFolders,
    ReferenceProtocol,
    given_inputs,
    pad_depth,
)
from amodal_diffusion.evaluation.prediction_files import BOX
from amodal_diffusion.metrics import boxes_of
from amodal_diffusion.types import BoolArray, VideoClip

PADDING = 4
"""The frame grows on each side by this part of its height or width, as in the published evaluation."""
PROTOCOL = ReferenceProtocol(resample="cv2", fps=2, depth_bits=8, cut_resized=True)
"""The published evaluation tells the network half as many frames a second as the clips of training have, less one, has
depth in 8 bits, and scales what the network gives to the padded frame before the threshold."""


def open_tao_amodal(
    data: Path,
    *,
    images: Path | None = None,
    depth: Path | None = None,
    index_folder: Path | None = None,
    track_ids: Path | None = None,
    limit: int | None = None,
) -> FileBenchmark:
    """Open the benchmark: each record is a track of all its frames.

    Objects reach out of the frame, so a margin of a quarter of the height or width, rounded down, is added on each
    side. In the margin the mask is empty, the frame repeats its outermost pixels, and depth, scaled to 0 to 1 over the
    clip, is 1. Boxes are shifted by the margin.

    Identities are ``tao-amodal/VIDEO/TRACK/FRAME``: the numbers, and the name of the first frame without its ending.

    Args:
        data: JSON list of TAO-Amodal's curated tracks, of any size.
        images: root of the frames; the folder of the annotation file by default.
        depth: root of depth pictures, see `FrameFolders`.
        index_folder: see :class:`~amodal_diffusion.data.index.EntryIndex`.
        track_ids: JSON of the first track of each video, from which the keys of the prediction file count; by default
            they have the annotation's own numbers.
        limit: number of tracks, from the first; None for all.

    Raises:
        InputError: if the file cannot be used, or two records begin with one frame of one track.
    """
    index = EntryIndex(data, folder=index_folder)
    heads = index.values("$.video_id", "$.track_id", "$.file_names[0]", limit=limit)
    identities = [f"tao-amodal/{_place(number, *head)}" for number, head in enumerate(heads)]
    first_tracks = {} if track_ids is None else read_first_tracks(track_ids)
    reader = _Reader(index, FrameFolders(data.parent if images is None else images, depth), first_tracks)
    inputs = given_inputs(data=data, images=images, depth=depth, track_ids=track_ids)
    return FileBenchmark("tao-amodal", inputs, identities, reader.read, reader.predictions)


def _place(number: int, video: object, track: object, frame: object) -> str:
    """Part of the identity; a damaged record is identified by its place in the file."""
    if isinstance(video, int) and isinstance(track, int) and isinstance(frame, str):
        return f"{video}/{track}/{PurePosixPath(frame).stem}"
    return f"track {number}"


@dataclass(frozen=True)
class _Reader:
    """Reads the tracks of an index as targets."""

    index: EntryIndex
    frames: FrameFolders
    first_tracks: Mapping[int, int]

    def read(self, number: int, identity: str) -> BoxTarget:
        record = self._record(number)
        size = record.height, record.width
        down, right = record.height // PADDING, record.width // PADDING
        sides = ((0, 0), (down, down), (right, right))
        rgb = np.pad(self.frames.read_rgb(record.file_names, size), (*sides, (0, 0)), mode="edge")
        depth = self.frames.read_depth(record.file_names, size)
        return BoxTarget(
            identity=identity,
            clip=VideoClip(rgb, np.pad(record.modal_masks(), sides)),
            depth=None if depth is None else pad_depth(depth, (down, right)),
            margins=(down, right),
            amodal_boxes=np.asarray(record.amodal_bboxes, dtype=np.float64) + np.array([right, down, 0, 0]),
        )

    def predictions(self, number: int, masks: BoolArray) -> dict[str, Any]:
        """Boxes around masks by ``(video_id, name of the frame, number of the track)``, in pixels of the frame."""
        record = self._record(number)
        track = record.track_id - self.first_tracks.get(record.video_id, 1) + 1
        boxes = boxes_of(masks)
        there = masks.any(axis=(1, 2))
        boxes[there, :2] -= np.array([record.width // PADDING, record.height // PADDING])
        return {
            str((record.video_id, PurePosixPath(name).name, str(track))): {BOX: box}
            for name, box in zip(record.file_names, boxes.tolist(), strict=True)
        }

    def _record(self, number: int) -> TaoRecord:
        return parse_tao_record(self.index.entry(number), where=self.index.name(number))
