"""Where clips and masks come from: uploads, within limits that are named when they are exceeded, and examples."""

from __future__ import annotations

import math
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from amodal_diffusion.app.unpacking import Room, unpack
from amodal_diffusion.evaluation.benchmarks.base import MaskTarget
from amodal_diffusion.evaluation.track_files import TrackFiles, write_track
from amodal_diffusion.io.images import SUFFIXES
from amodal_diffusion.io.mask_files import MaskTrack, fit_track, read_masks
from amodal_diffusion.io.probe import VIDEO_SUFFIXES, measure
from amodal_diffusion.io.video_reader import ClipReader, open_clip
from amodal_diffusion.synthetic import make_scene
from amodal_diffusion.types import InputError, VideoClip

_MIB = 2**20
_FRAMES, _HEIGHT, _WIDTH = 16, 192, 384  # of an example; large enough to look at
_MOST_OBJECTS = 32  # whose masks are taken from one upload

FILE_TYPES = (*dict.fromkeys((*SUFFIXES, *VIDEO_SUFFIXES)), ".zip")
"""Endings of what can be uploaded; what a file holds is checked as well."""


@dataclass(frozen=True)
class Limits:
    """Largest uploads that the page accepts.

    Attributes:
        megabytes: MiB of an upload, packed and unpacked.
        frames: length of a clip.
        pixels: size of a frame.
        seconds: length of a clip.
    """

    megabytes: int
    frames: int
    pixels: int = 9_000_000
    seconds: int = 600

    def check_content(self, files: Iterable[Path], *, what: str, most: int) -> None:
        """Raise an InputError if files are no pictures or videos, or too large; nothing is decoded.

        Args:
            files: a video, or pictures.
            what: name of the argument for messages.
            most: frames of all files together.
        """
        total = 0
        for file in files:
            extent = measure(file, most_frames=most, most_pixels=self.pixels)
            if extent.pixels > self.pixels:
                raise InputError(
                    f"{what}: {file.name}: {extent.width}x{extent.height} pixels, this page takes at most "
                    f"{self.pixels / 1e6:g} million; scale it down, or start the page with a larger --max-megapixels"
                )
            if extent.seconds > self.seconds:
                raise InputError(
                    f"{what}: {file.name}: {extent.seconds:.0f} seconds, this page takes at most {self.seconds}; "
                    f"cut it shorter, or start the page with --max-seconds {math.ceil(extent.seconds)}"
                )
            total += extent.frames
        if total > most:
            raise InputError(f"{what}: {total} frames, this page takes at most {most}; {_advice(total)}")

    def check_frames(self, found: int) -> None:
        """Raise an InputError if a clip is too long.

        Args:
            found: frames of the clip.
        """
        if found > self.frames:
            raise InputError(f"clip: {found} frames, this page takes at most {self.frames}; {_advice(found)}")

    def check_bytes(self, found: int) -> None:
        """Raise an InputError if files are too large.

        Args:
            found: bytes of all files together, unpacked.
        """
        if found > self.megabytes * _MIB:
            raise InputError(
                f"upload: {-(-found // _MIB)} MB, this page takes at most {self.megabytes} MB; give less, or start the "
                f"page with --max-upload {-(-found // _MIB)}"
            )


def take_clip(files: Sequence[Path], folder: Path, limits: Limits) -> ClipReader:
    """Copy or unpack an uploaded clip into a folder.

    Args:
        files: one video, one zip of pictures, or pictures.
        folder: must be empty.
        limits: largest uploads that the page accepts.

    Raises:
        InputError: if the files are not a clip, or exceed the limits.
    """
    path = _settle(files, folder, limits, what="clip", most=limits.frames)
    limits.check_content(_files_of(path), what="clip", most=limits.frames)
    clip = open_clip(path)
    limits.check_frames(clip.num_frames)
    return clip


def take_masks(files: Sequence[Path], folder: Path, limits: Limits, clip: ClipReader) -> Path:
    """Copy or unpack uploaded masks into a folder.

    Args:
        files: one video, one zip of pictures or of a folder an object, or pictures.
        folder: must be empty.
        limits: largest uploads that the page accepts.
        clip: the clip that the masks belong to.

    Returns:
        path for `complete --masks`.

    Raises:
        InputError: if the files are not masks, do not fit the clip, or exceed the limits.
    """
    path = _settle(files, folder, limits, what="masks", most=limits.frames * _MOST_OBJECTS)
    limits.check_content(_files_of(path), what="masks", most=limits.frames * _MOST_OBJECTS)
    open_masks(path, clip)
    return path


def open_masks(path: Path, clip: ClipReader) -> dict[str, MaskTrack]:
    """Open masks and check them against their clip.

    Args:
        path: as `read_masks` takes it.
        clip: the clip that the masks belong to.

    Returns:
        masks by name of the object.

    Raises:
        InputError: if the masks cannot be read or do not fit, or an object is visible in no frame.
    """
    tracks = {name: fit_track(track, clip, what="masks") for name, track in read_masks(path).items()}
    empty = [name for name, track in tracks.items() if not any(track.areas)]
    if empty:
        raise InputError(
            f"masks: object {', '.join(empty)} is empty in every frame; it must be visible in at least one"
        )
    return tracks


@dataclass(frozen=True)
class Example:
    """A scene of the test split, which no training saw.

    Attributes:
        title: text of the button.
        seed: number of the scene.
    """

    title: str
    seed: int


EXAMPLES = (
    Example("Mushroom behind a fence", 255),
    Example("Leaf behind a ladder", 4),
    Example("Heart behind boards", 10),
)


def write_example(example: Example, folder: Path) -> TrackFiles:
    """Render a scene, and write its frames, the visible masks of its target and its depth.

    Args:
        example: the scene.
        folder: made if it does not exist.
    """
    scene = make_scene(example.seed, split="test-v1", frames=_FRAMES, height=_HEIGHT, width=_WIDTH, with_rgb=True)
    if scene.rgb is None:
        raise RuntimeError(f"{scene.name}: asked for RGB and got none")
    target = scene.target
    track = MaskTarget(
        identity=scene.name,
        clip=VideoClip(scene.rgb, target.modal, scene.fps),
        amodal_mask=target.amodal,
        depth=scene.depth,
        amodal_rgb=target.rgb,
    )
    return write_track(track, folder)


def _settle(files: Sequence[Path], folder: Path, limits: Limits, *, what: str, most: int) -> Path:
    """Copy or unpack at most so many pictures, or a video; the path that `open_clip` or `read_masks` takes."""
    if not files:
        raise InputError(f"{what}: nothing was uploaded; choose a video, a zip, or pictures")
    limits.check_bytes(sum(file.stat().st_size for file in files))
    packed = [file for file in files if file.suffix.lower() == ".zip"]
    if packed and len(files) > 1:
        raise InputError(f"{what}: expected one zip, or files that are not packed, got {len(files)} files with a zip")
    if packed:
        unpack(packed[0], folder, Room(limits.megabytes, most), what=what)
        return _inner(folder)
    if len(files) == 1:
        return Path(shutil.copy2(files[0], folder))
    if len(files) > most:
        raise InputError(f"{what}: {len(files)} frames, this page takes at most {most}; {_advice(len(files))}")
    others = [file.name for file in files if file.suffix.lower() not in SUFFIXES]
    if others:
        raise InputError(f"{what}: expected one video or pictures alone, got {len(files)} files with {others[0]}")
    for file in files:
        if (folder / file.name).exists():
            raise InputError(f"{what}: two files are named {file.name}; pack them as a zip, each object in its folder")
        shutil.copy2(file, folder)
    return folder


def _advice(frames: int) -> str:
    return f"give fewer, or start the page with --max-frames {frames}"


def _files_of(path: Path) -> list[Path]:
    return sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path]


def _inner(folder: Path) -> Path:
    """The folder itself, or the only one in it where the zip was packed with its folder."""
    entries = list(folder.iterdir())
    while len(entries) == 1 and entries[0].is_dir():
        folder = entries[0]
        entries = list(folder.iterdir())
    return folder
