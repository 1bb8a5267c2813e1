"""Folders of clips: one folder of frames and one of masks per clip, read as objects through whole videos."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from amodal_diffusion.basics import InputError
from amodal_diffusion.frames.masks import Rle, encode_rle
from amodal_diffusion.io.images import list_pictures, natural_key
from amodal_diffusion.io.mask_files import MaskTrack, read_masks


@dataclass(frozen=True)
class VideoObject:
    """One object through all N frames of a video.

    Attributes:
        name: video and object, for messages.
        obj_id: unique among the objects of the video.
        category_id: number of the object's category.
        size: height and width of the masks in pixels.
        image_ids: number of each frame, the same for all objects of the video.
        image_file_names: path of each frame, with ``/``, relative to the root of the frames.
        modal: modal mask of each frame; None where it is empty.
        amodal: amodal mask of each frame; None where it is empty.
    """

    name: str
    obj_id: int
    category_id: int
    size: tuple[int, int]
    image_ids: Sequence[int]
    image_file_names: Sequence[str]
    modal: Sequence[Rle | None]
    amodal: Sequence[Rle | None]


@dataclass(frozen=True)
class FolderNames:
    """Names of the subfolders of each clip folder.

    Attributes:
        images: frames.
        modal: modal masks, see :func:`~amodal_diffusion.io.mask_files.read_masks`.
        amodal: amodal masks, in the same form.
    """

    images: str = "images"
    modal: str = "modal"
    amodal: str = "amodal"


@dataclass(frozen=True)
class FolderClip:
    """Frames and object masks of one clip, with one mask per frame and object.

    Attributes:
        path: the clip folder.
        frames: frame files in order.
        objects: modal and amodal masks by object name, in natural order; not read before they are iterated.
    """

    path: Path
    frames: list[Path]
    objects: dict[str, tuple[MaskTrack, MaskTrack]]


def folder_clips(root: Path, names: FolderNames) -> Iterator[FolderClip]:
    """Find every clip at or below a folder, in natural order.

    Frame and mask files are paired in natural order.

    Args:
        root: folder that holds the clips.
        names: subfolders of a clip.

    Raises:
        InputError: if there is no clip, or the masks and frames of a clip do not match.
    """
    for clip in _clips(root, names.images):
        frames = list_pictures(clip / names.images)
        if not frames:
            raise InputError(f"{clip / names.images}: no pictures in this folder")
        objects = _objects(clip, names)
        for track in (track for pair in objects.values() for track in pair):
            if track.num_frames != len(frames):
                raise InputError(
                    f"{track.path}: {track.num_frames} masks for {len(frames)} frames in {clip / names.images}; "
                    "give one mask per frame, empty if the object is absent"
                )
        yield FolderClip(clip, frames, objects)


def folder_objects(root: Path, names: FolderNames) -> Iterator[VideoObject]:
    """Read the objects of every clip at or below a folder.

    The name of an object is the name of its mask folder, or its label.

    Args:
        root: folder that holds the clips; paths in the annotation are relative to it.
        names: subfolders of a clip.

    Raises:
        InputError: see `folder_clips`.
    """
    first = 0  # image id
    for clip in folder_clips(root, names):
        paths = [path.relative_to(root).as_posix() for path in clip.frames]
        image_ids = range(first, first + len(paths))
        first += len(paths)
        for number, (name, (modal, amodal)) in enumerate(clip.objects.items(), start=1):
            yield VideoObject(
                name=f"{clip.path}: object {name}",
                obj_id=number,
                category_id=1,
                size=(amodal.height, amodal.width),
                image_ids=image_ids,
                image_file_names=paths,
                modal=[encode_rle(mask) if area else None for mask, area in zip(modal, modal.areas, strict=True)],
                amodal=[encode_rle(mask) if area else None for mask, area in zip(amodal, amodal.areas, strict=True)],
            )


def _clips(root: Path, images: str) -> list[Path]:
    """Folders at or below ``root`` that hold a folder of frames, in natural order."""
    if not root.is_dir():
        raise InputError(f"{root}: no such folder")
    found = []
    for place, folders, _ in os.walk(root, followlinks=True):
        if images in folders:
            found.append(Path(place))
            folders.clear()  # clips are not nested, so skip the many files of a clip
    if not found:
        raise InputError(f"{root}: no clip here; expected folders that hold a folder {images} of frames each")
    return sorted(found, key=lambda path: natural_key(str(path)))


def _objects(clip: Path, names: FolderNames) -> dict[str, tuple[MaskTrack, MaskTrack]]:
    """Modal and amodal masks by object."""
    if not (clip / names.amodal).exists():
        raise InputError(
            f"{names.amodal}: {clip / names.amodal}: no such file or folder; training and evaluation need the "
            "true masks of whole objects beside the modal ones (docs/data.md, section 2)"
        )
    modal, amodal = (read_masks(clip / name, what=name) for name in (names.modal, names.amodal))
    if modal.keys() != amodal.keys():
        alone = min(modal.keys() ^ amodal.keys(), key=natural_key)
        there, missing = (names.modal, names.amodal) if alone in modal else (names.amodal, names.modal)
        raise InputError(
            f"{clip}: expected the same objects in {names.modal} and {names.amodal}, got {alone} only in {there}; "
            f"add its masks to {missing}, empty if the object is absent"
        )
    for name, track in modal.items():
        if (track.height, track.width) != (amodal[name].height, amodal[name].width):
            raise InputError(
                f"{track.path}: masks of {track.width}x{track.height} pixels, {amodal[name].path} has "
                f"{amodal[name].width}x{amodal[name].height}; give both the frames' size"
            )
    return {name: (track, amodal[name]) for name, track in modal.items()}
