"""Clips and masks of the web page: uploads with size limits, and examples."""

from __future__ import annotations

import base64
import io
import math
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from amodal_diffusion.app.unpacking import Room, unpack
from amodal_diffusion.basics import InputError
from amodal_diffusion.evaluation.benchmarks.base import MaskTarget
from amodal_diffusion.evaluation.track_files import TrackFiles, write_track
from amodal_diffusion.io.images import SUFFIXES
from amodal_diffusion.io.mask_files import MaskTrack, fit_track, read_masks
from amodal_diffusion.io.probe import VIDEO_SUFFIXES, measure
from amodal_diffusion.io.video_reader import ClipReader, open_clip
from amodal_diffusion.synthetic.drawn import draw_clip
from amodal_diffusion.synthetic.scenes import FPS
from amodal_diffusion.types import VideoClip

_MIB = 2**20
_FRAMES, _HEIGHT, _WIDTH = 16, 192, 384  # size of an example, large enough for viewing
_MOST_OBJECTS = 32  # whose masks are taken from one upload

FILE_TYPES = (*dict.fromkeys((*SUFFIXES, *VIDEO_SUFFIXES)), ".zip")
"""Endings of what can be uploaded; what a file holds is checked as well."""


@dataclass(frozen=True)
class Limits:
    """Size limits of uploads.

    Attributes:
        megabytes: largest upload in MiB, before and after unpacking.
        frames: largest number of frames of a clip.
        pixels: largest number of pixels of a frame.
        seconds: longest duration of a clip.
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
        """Raise an InputError if a clip of ``found`` frames is too long."""
        if found > self.frames:
            raise InputError(f"clip: {found} frames, this page takes at most {self.frames}; {_advice(found)}")

    def check_bytes(self, found: int) -> None:
        """Raise an InputError if unpacked files with a total size of ``found`` bytes are too large."""
        if found > self.megabytes * _MIB:
            raise InputError(
                f"upload: {-(-found // _MIB)} MiB, this page takes at most {self.megabytes} MiB; give less, or start "
                f"the page with --max-upload {-(-found // _MIB)}"
            )


def take_clip(files: Sequence[Path], folder: Path, limits: Limits) -> ClipReader:
    """Copy or unpack an uploaded clip into a folder.

    Args:
        files: one video, one zip of images, or images.
        folder: empty folder.
        limits: size limits of uploads.

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
        files: one video, one zip of images or of one folder per object, or images.
        folder: empty folder.
        limits: size limits of uploads.
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
    """Open masks and check that they match their clip.

    Args:
        path: path of the masks, for `read_masks`.
        clip: the clip that the masks belong to.

    Returns:
        maps the name of each object to its masks.

    Raises:
        InputError: if the masks cannot be read or do not match the clip, or an object is never visible.
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
    """A drawn clip, which neither trains nor tests a model.

    Attributes:
        title: label of the button.
        name: of the drawing.
    """

    title: str
    name: str


EXAMPLES = (
    Example("Person behind trees", "person"),
    Example("Dog behind a fence", "dog"),
    Example("Kettle behind a bottle", "kettle"),
)


def thumbnail(example: Example) -> str:
    """The frame of an example that hides most of what it shows of its object, as the data URL of a small JPEG.

    Args:
        example: the clip.
    """
    clip = draw_clip(example.name, frames=_FRAMES, height=_HEIGHT // 2, width=_WIDTH // 2)
    shown = clip.modal.sum(axis=(1, 2))
    best = int(np.argmax(np.minimum(shown, clip.amodal.sum(axis=(1, 2)) - shown)))
    file = io.BytesIO()
    Image.fromarray(clip.rgb[best]).save(file, "JPEG", quality=80)
    return f"data:image/jpeg;base64,{base64.b64encode(file.getvalue()).decode()}"


def write_example(example: Example, folder: Path) -> TrackFiles:
    """Draw a clip, and write its frames, the modal masks of its target object and its depth.

    Args:
        example: the clip.
        folder: destination, created if it does not exist.
    """
    drawn = draw_clip(example.name, frames=_FRAMES, height=_HEIGHT, width=_WIDTH)
    track = MaskTarget(
        identity=drawn.name,
        clip=VideoClip(drawn.rgb, drawn.modal, FPS),
        amodal_mask=drawn.amodal,
        depth=drawn.depth,
        amodal_rgb=drawn.whole_rgb,
    )
    return write_track(track, folder)


def _settle(files: Sequence[Path], folder: Path, limits: Limits, *, what: str, most: int) -> Path:
    """Copy or unpack at most so many pictures, or a video; the path for `open_clip` or `read_masks`."""
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
    """The folder itself, or its only subfolder if the zip contains just one folder."""
    entries = list(folder.iterdir())
    while len(entries) == 1 and entries[0].is_dir():
        folder = entries[0]
        entries = list(folder.iterdir())
    return folder
