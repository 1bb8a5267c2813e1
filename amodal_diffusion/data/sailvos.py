"""Datasets of real clips: tracks in the SAIL-VOS sequence layout with their frames."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from torch.utils.data import Dataset

from amodal_diffusion.basics import InputError
from amodal_diffusion.data.index import TrackIndex
from amodal_diffusion.data.records import TrackRecord
from amodal_diffusion.data.samples import AmodalSample, FrameFile, PackedFrame
from amodal_diffusion.frames.masks import cut_out_on_white
from amodal_diffusion.io.images import SUFFIXES, read_integers
from amodal_diffusion.io.pictures import read_frames, read_rgb
from amodal_diffusion.types import BoolArray, FloatArray, UInt8Array


def find_frame(images: Path, name: str) -> Path | None:
    """Find a frame file, even if it was converted to another image format with another suffix.

    Args:
        images: root of the frames.
        name: path in the annotation, relative to the root.

    Returns:
        the file; None if there is none.
    """
    path = images / name
    others = (path.with_suffix(case) for suffix in SUFFIXES for case in (suffix, suffix.upper()))
    return next((file for file in (path, *others) if file.is_file()), None)


def frame_file(images: Path, name: str) -> Path:
    """Like `find_frame`, but raise an error if there is no file.

    Raises:
        InputError: if there is no such frame.
    """
    path = find_frame(images, name)
    if path is None:
        raise InputError(f"{images / name}: no such file, and none of the same name in another format")
    return path


def read_frame(path: FrameFile, size: tuple[int, int]) -> UInt8Array:
    """Read a frame and check that its size is that of the masks.

    Args:
        path: frame file, or frame in a shard.
        size: height and width of the masks.

    Returns:
        uint8 ``[H, W, 3]``.

    Raises:
        InputError: if the frame cannot be read or has another size.
    """
    rgb = path.read() if isinstance(path, PackedFrame) else read_rgb(path)
    if rgb.shape[:2] != size:
        raise InputError(f"{path}: {rgb.shape[1]}x{rgb.shape[0]} pixels for masks of {size[1]}x{size[0]}")
    return rgb


def read_depth_picture(path: Path, size: tuple[int, int]) -> FloatArray:
    """Read the depth of a frame from an 8- or 16-bit gray picture, nearer is larger.

    Args:
        path: the picture.
        size: height and width of the masks.

    Returns:
        float32 ``[H, W]``.

    Raises:
        InputError: if it cannot be read or has another size.
    """
    values = read_integers(path).values
    if values.shape != size:
        raise InputError(
            f"{path}: depth of {values.shape[1]}x{values.shape[0]} pixels for masks of {size[1]}x{size[0]}"
        )
    return values.astype(np.float32)


@dataclass(frozen=True)
class Track:
    """One object through a clip, at frame resolution.

    Attributes:
        name: unique within its dataset.
        record: record of the clip's frames.
        modal: modal (visible) masks, bool ``[F, H, W]``.
        amodal: amodal masks, bool ``[F, H, W]``; contain `modal`.
    """

    name: str
    record: TrackRecord
    modal: BoolArray
    amodal: BoolArray


class TrackSource(Protocol):
    """A data set of tracks, whose masks can be changed before a sample is made of one."""

    @property
    def source(self) -> str:
        """File, folder or URL, for messages."""
        ...

    @property
    def available(self) -> int:
        """Number of tracks, also of those beyond a limit."""
        ...

    def __len__(self) -> int:
        """Number of tracks."""
        ...

    def __getitem__(self, index: int, /) -> AmodalSample:
        """Read a track as a sample."""
        ...

    def name(self, index: int) -> str:
        """Name of a track in messages, without reading it."""
        ...

    def load(self, index: int) -> Track:
        """Read a track and decode its masks."""
        ...

    def sample(
        self, track: Track, *, modal: BoolArray, amodal: BoolArray, whole_is_visible: bool = False
    ) -> AmodalSample:
        """Make a sample from a track and given masks."""
        ...


class SailVosDataset(Dataset[AmodalSample]):
    """The tracks of an annotation file; masks and frames are read when an item is requested.

    Tracks may have frames in which the object is not visible.

    Args:
        annotations: file in the SAIL-VOS sequence layout, of any size.
        images: root of the frames; the annotation file's folder by default.
        frames: F; longer tracks are cut to their first F frames.
        with_rgb: whether to read frames, which is much slower.
        index_folder: see :class:`~amodal_diffusion.data.index.TrackIndex`.
        limit: number of tracks to use, from the first; all by default.

    Raises:
        InputError: if the annotation file cannot be used.
    """

    def __init__(
        self,
        annotations: Path,
        images: Path | None = None,
        *,
        frames: int,
        with_rgb: bool,
        index_folder: Path | None = None,
        limit: int | None = None,
    ) -> None:
        self.tracks = TrackIndex(annotations, folder=index_folder)
        self.images = annotations.parent if images is None else images
        self.frames = frames
        self.with_rgb = with_rgb
        self._length = len(self.tracks) if limit is None else min(limit, len(self.tracks))

    def __len__(self) -> int:
        """Number of tracks."""
        return self._length

    @property
    def source(self) -> str:
        """The annotation file."""
        return str(self.tracks.annotations)

    @property
    def available(self) -> int:
        """Number of tracks of the file."""
        return len(self.tracks)

    def name(self, index: int) -> str:
        """Name of a track in messages, without reading it."""
        return self.tracks.name(index)

    def __getitem__(self, index: int) -> AmodalSample:
        """Read a track as a sample.

        Raises:
            IndexError: if there is no such track.
            InputError: if its record or one of its frames is invalid; the message names it.
        """
        if not 0 <= index < self._length:
            raise IndexError(f"index: expected 0 to {self._length - 1}, got {index}")
        track = self.load(index)
        return self.sample(track, modal=track.modal, amodal=track.amodal)

    def load(self, index: int) -> Track:
        """Read a track's record and decode its masks, without its frames.

        Raises:
            InputError: if the record is invalid.
        """
        record = self.tracks.record(index)
        with _named(self.name(index)):
            record = record.first(self.frames)
            modal = record.modal_masks()
            return Track(self.name(index), record, modal, record.amodal_masks() | modal)

    def sample(
        self, track: Track, *, modal: BoolArray, amodal: BoolArray, whole_is_visible: bool = False
    ) -> AmodalSample:
        """Make a sample from a track and given masks.

        Args:
            track: gives name and frames.
            modal: modal (visible) masks, bool ``[F, H, W]``.
            amodal: amodal masks, bool ``[F, H, W]``; contain `modal`.
            whole_is_visible: whether the frames show all of `amodal`; if so, the sample gets `whole_rgb`.

        Raises:
            InputError: if a frame is missing, cannot be read or differs from the masks in size; the message names the
                track.
        """
        with _named(track.name):
            names = track.record.image_file_names
            if self.with_rgb:
                files = tuple(frame_file(self.images, name) for name in names)
            else:  # masks alone need no frames
                files = tuple(find_frame(self.images, name) or self.images / name for name in names)
            rgb = read_frames(files, track.record.size) if self.with_rgb else None
            whole = cut_out_on_white(rgb, amodal) if rgb is not None and whole_is_visible else None
            return AmodalSample(track.name, modal, amodal, depth=None, rgb=rgb, whole_rgb=whole, files=files)


@contextmanager
def _named(name: str) -> Iterator[None]:
    """Prefix the messages of input errors with a track's name."""
    try:
        yield
    except InputError as error:
        raise InputError(f"{name}: {error}") from error
