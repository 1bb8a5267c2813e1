"""The benchmark of an annotation file in the layout of SAIL-VOS sequences, at the annotation's size."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from amodal_diffusion.data.index import TrackIndex
from amodal_diffusion.evaluation.benchmarks.base import (
    FileBenchmark,
    FrameFolders,
    MaskTarget,
    ReferenceProtocol,
    given_inputs,
)
from amodal_diffusion.evaluation.prediction_files import MASK
from amodal_diffusion.frames.masks import encode_rle
from amodal_diffusion.types import BoolArray, VideoClip

PROTOCOL = ReferenceProtocol(resample="cv2")
"""The published evaluation resizes frames and masks as OpenCV does."""


def open_sailvos(
    data: Path,
    *,
    images: Path | None = None,
    depth: Path | None = None,
    index_folder: Path | None = None,
    limit: int | None = None,
) -> FileBenchmark:
    """Open the benchmark: each record is a track of all its frames.

    Identities are ``sailvos/PATH/OBJECT``: the path of the first frame without its ending, and the object's number.

    Args:
        data: the annotation file, of any size.
        images: root of the frames; the folder of the annotation file by default.
        depth: root of depth pictures, see `FrameFolders`.
        index_folder: see :class:`~amodal_diffusion.data.index.EntryIndex`.
        limit: number of tracks, from the first; None for all.

    Raises:
        InputError: if the file cannot be used, or two records begin with one frame of one object.
    """
    index = TrackIndex(data, folder=index_folder)
    heads = index.values("$.image_file_names[0]", "$.obj_id", limit=limit)
    identities = [f"sailvos/{_place(number, *head)}" for number, head in enumerate(heads)]
    reader = _Reader(index, FrameFolders(data.parent if images is None else images, depth))
    inputs = given_inputs(data=data, images=images, depth=depth)
    return FileBenchmark("sailvos", inputs, identities, reader.read, reader.predictions)


def _place(number: int, frame: object, obj_id: object) -> str:
    """Part of the identity; a damaged record is identified by its place in the file."""
    if isinstance(frame, str) and isinstance(obj_id, int):
        return f"{PurePosixPath(frame).with_suffix('')}/{obj_id}"
    return f"track {number}"


@dataclass(frozen=True)
class _Reader:
    """Reads the tracks of an index as targets."""

    index: TrackIndex
    frames: FrameFolders

    def read(self, number: int, identity: str) -> MaskTarget:
        record = self.index.record(number)
        names = record.image_file_names
        return MaskTarget(
            identity=identity,
            clip=VideoClip(self.frames.read_rgb(names, record.size), record.modal_masks()),
            amodal_mask=record.amodal_masks(),
            depth=self.frames.read_depth(names, record.size),
        )

    def predictions(self, number: int, masks: BoolArray) -> dict[str, Any]:
        """Masks by ``(image_id, obj_id)``, at the annotation's size."""
        record = self.index.record(number)
        return {
            f"({image}, {record.obj_id})": {MASK: encode_rle(mask)}
            for image, mask in zip(record.image_ids, masks, strict=True)
        }
