"""The benchmark of a user's own clips, as folders of frames and of each object's masks."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np

from amodal_diffusion.basics import InputError
from amodal_diffusion.data.folder_source import FolderClip, FolderNames, folder_clips
from amodal_diffusion.evaluation.benchmarks.base import FileBenchmark, MaskTarget
from amodal_diffusion.io.depth_files import read_depth
from amodal_diffusion.io.images import list_pictures
from amodal_diffusion.io.pictures import read_frames
from amodal_diffusion.types import FloatArray, UInt8Array, VideoClip

DEPTH, OBJECTS = "depth", "objects"


def open_folder(data: Path, *, limit: int | None = None) -> FileBenchmark:
    """Open the benchmark: each object that is visible in at least one frame of its clip is a track.

    Clips are those of :func:`~amodal_diffusion.data.folder_source.folder_clips`. A clip's folder may also hold
    ``depth`` or ``depth.npy`` (see :func:`~amodal_diffusion.io.depth_files.read_depth`), nearer is larger, and
    ``objects/OBJECT``, pictures of the whole object.

    Identities are ``folder/CLIP/OBJECT``: the clip's path below the folder, and the object's name.

    Args:
        data: holds the clips.
        limit: number of tracks, from the first; None for all.

    Raises:
        InputError: if there is no clip, or a clip's masks and frames do not belong together.
    """
    found = list(islice(_objects(data), limit))
    identities = ["/".join(("folder", *item.clip.path.relative_to(data).parts, item.name)) for item in found]
    return FileBenchmark("folder", {"data": data}, identities, lambda index, identity: found[index].read(identity))


@dataclass(frozen=True)
class _Object:
    """An object of a clip."""

    clip: FolderClip
    name: str

    def read(self, identity: str) -> MaskTarget:
        modal, amodal = self.clip.objects[self.name]
        size = modal.height, modal.width
        return MaskTarget(
            identity=identity,
            clip=VideoClip(_read_frames(self.clip.frames, size), np.stack(list(modal))),
            amodal_mask=np.stack(list(amodal)),
            depth=self._depth(size),
            amodal_rgb=self._whole(size),
        )

    def _depth(self, size: tuple[int, int]) -> FloatArray | None:
        places = (self.clip.path / DEPTH, self.clip.path / f"{DEPTH}.npy")
        place = next((path for path in places if path.exists()), None)
        if place is None:
            return None
        depth = read_depth(place)
        if depth.shape != (len(self.clip.frames), *size):
            raise InputError(
                f"{place}: expected depth [F, H, W] of {[len(self.clip.frames), *size]} as the masks, got "
                f"{list(depth.shape)}"
            )
        return depth

    def _whole(self, size: tuple[int, int]) -> UInt8Array | None:
        place = self.clip.path / OBJECTS / self.name
        if not place.is_dir():
            return None
        pictures = list_pictures(place)
        if len(pictures) != len(self.clip.frames):
            raise InputError(f"{place}: {len(pictures)} pictures for {len(self.clip.frames)} frames; give one a frame")
        return _read_frames(pictures, size)


def _objects(data: Path) -> Iterator[_Object]:
    for clip in folder_clips(data, FolderNames()):
        yield from (_Object(clip, name) for name, (modal, _) in clip.objects.items() if any(modal.areas))


def _read_frames(paths: list[Path], size: tuple[int, int]) -> UInt8Array:
    return read_frames(paths, size)
