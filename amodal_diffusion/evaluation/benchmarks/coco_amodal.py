"""The benchmark of amodal annotations of single images, such as KINS and COCOA: clips of one frame."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from amodal_diffusion.data.amodal_images import AmodalImageIndex
from amodal_diffusion.evaluation.benchmarks.base import FileBenchmark, FrameFolders, MaskTarget, given_inputs
from amodal_diffusion.types import VideoClip


def open_coco_amodal(
    data: Path,
    *,
    images: Path | None = None,
    depth: Path | None = None,
    index_folder: Path | None = None,
    limit: int | None = None,
) -> FileBenchmark:
    """Open the benchmark: each object with a visible pixel is a track of one frame.

    Identities are ``coco-amodal/IMAGE/PLACE``: the image's number, and the object's place in it, from 0.

    Args:
        data: the annotation file, of any size, see `AmodalImageIndex`.
        images: root of the images; the folder of the annotation file by default.
        depth: root of depth pictures, see `FrameFolders`.
        index_folder: see :class:`~amodal_diffusion.data.index.EntryIndex`.
        limit: number of tracks, from the first; None for all.

    Raises:
        InputError: if the file cannot be used.
    """
    index = AmodalImageIndex(data, folder=index_folder)
    identities = [f"coco-amodal/{place}" for place in index.places(limit)]
    reader = _Reader(index, FrameFolders(data.parent if images is None else images, depth))
    return FileBenchmark("coco-amodal", given_inputs(data=data, images=images, depth=depth), identities, reader.read)


@dataclass(frozen=True)
class _Reader:
    """Reads the objects of an index as targets."""

    index: AmodalImageIndex
    frames: FrameFolders

    def read(self, number: int, identity: str) -> MaskTarget:
        item = self.index.object(number)
        names = [item.image_file_name]
        return MaskTarget(
            identity=identity,
            clip=VideoClip(self.frames.read_rgb(names, item.size), item.modal[None]),
            amodal_mask=item.amodal[None],
            depth=self.frames.read_depth(names, item.size),
        )
