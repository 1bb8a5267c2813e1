"""The benchmark of TAO-Amodal's curated tracks: boxes of whole objects, which may leave the frame."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np

from amodal_diffusion.data.index import EntryIndex
from amodal_diffusion.data.tao_amodal import parse_tao_record
from amodal_diffusion.evaluation.benchmarks.base import BoxTarget, FileBenchmark, FrameFolders, given_inputs, pad_depth
from amodal_diffusion.types import VideoClip

PADDING = 4
"""The frame grows on each side by this part of its height or width, as in the published evaluation."""


def open_tao_amodal(
    data: Path,
    *,
    images: Path | None = None,
    depth: Path | None = None,
    index_folder: Path | None = None,
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
        limit: number of tracks, from the first; None for all.

    Raises:
        InputError: if the file cannot be used, or two records begin with one frame of one track.
    """
    index = EntryIndex(data, folder=index_folder)
    heads = index.values("$.video_id", "$.track_id", "$.file_names[0]", limit=limit)
    identities = [f"tao-amodal/{_place(number, *head)}" for number, head in enumerate(heads)]
    reader = _Reader(index, FrameFolders(data.parent if images is None else images, depth))
    return FileBenchmark("tao-amodal", given_inputs(data=data, images=images, depth=depth), identities, reader.read)


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

    def read(self, number: int, identity: str) -> BoxTarget:
        record = parse_tao_record(self.index.entry(number), where=self.index.name(number))
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
