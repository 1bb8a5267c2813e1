"""Real clips: the tracks of an annotation file with their frames, in the layout of SAIL-VOS sequences."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from torch.utils.data import Dataset

from amodal_diffusion.data.index import TrackIndex
from amodal_diffusion.data.records import TrackRecord
from amodal_diffusion.data.samples import AmodalSample
from amodal_diffusion.frames.masks import cut_out_on_white
from amodal_diffusion.io.images import SUFFIXES, read_rgb
from amodal_diffusion.types import BoolArray, InputError, UInt8Array


def find_frame(images: Path, name: str) -> Path | None:
    """Find a frame, also where its file was converted and its ending changed with it.

    Args:
        images: root of the frames.
        name: path relative to it, as the annotation has it.

    Returns:
        the file; None if there is none.
    """
    path = images / name
    others = (path.with_suffix(case) for suffix in SUFFIXES for case in (suffix, suffix.upper()))
    return next((file for file in (path, *others) if file.is_file()), None)


def frame_file(images: Path, name: str) -> Path:
    """As `find_frame`.

    Raises:
        InputError: if there is none.
    """
    path = find_frame(images, name)
    if path is None:
        raise InputError(f"{images / name}: no such file, nor one of another picture format")
    return path


def read_frame(path: Path, size: tuple[int, int]) -> UInt8Array:
    """Read a frame that belongs to masks.

    Args:
        path: of the frame.
        size: height and width of the masks.

    Returns:
        uint8 ``[H, W, 3]``.

    Raises:
        InputError: if it cannot be read or is of another size.
    """
    rgb = read_rgb(path)
    if rgb.shape[:2] != size:
        raise InputError(f"{path}: {rgb.shape[1]}x{rgb.shape[0]} pixels for masks of {size[1]}x{size[0]}")
    return rgb


@dataclass(frozen=True)
class Track:
    """One object through a clip at the size of its frames.

    Attributes:
        name: unique within its dataset.
        record: of the clip's frames.
        modal: visible part, bool ``[F, H, W]``.
        amodal: whole object, bool ``[F, H, W]``; contains `modal`.
    """

    name: str
    record: TrackRecord
    modal: BoolArray
    amodal: BoolArray


class SailVosDataset(Dataset[AmodalSample]):
    """The tracks of an annotation file; only what an item needs is read, when it is asked for.

    Frames without a visible pixel are as good as others.

    Args:
        annotations: file in the layout of SAIL-VOS sequences, of any size.
        images: root of the frames; the annotation file's folder by default.
        frames: F; longer tracks give their first F frames.
        with_rgb: whether items have RGB, so whether frames are read; much slower with it.
        index_folder: see :class:`~amodal_diffusion.data.index.TrackIndex`.
        limit: take the first so many tracks; all by default.

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

    def name(self, index: int) -> str:
        """What messages call a track, without reading it."""
        return self.tracks.name(index)

    def __getitem__(self, index: int) -> AmodalSample:
        """A track.

        Raises:
            IndexError: if there is no such track.
            InputError: if its record or one of its frames is not as it should be; names it.
        """
        if not 0 <= index < self._length:
            raise IndexError(f"index: expected 0 to {self._length - 1}, got {index}")
        track = self.load(index)
        return self.sample(track, modal=track.modal, amodal=track.amodal)

    def load(self, index: int) -> Track:
        """Read a track's record and decode its masks, without its frames; raises as reading an item does."""
        record = self.tracks.record(index)
        with _named(self.name(index)):
            record = record.first(self.frames)
            modal = record.modal_masks()
            return Track(self.name(index), record, modal, record.amodal_masks() | modal)

    def sample(
        self, track: Track, *, modal: BoolArray, amodal: BoolArray, whole_is_visible: bool = False
    ) -> AmodalSample:
        """Make a sample of a track, with masks of its own or others.

        Args:
            track: gives name and frames.
            modal: visible part, bool ``[F, H, W]``.
            amodal: whole object, contains `modal`.
            whole_is_visible: whether the frames show all of `amodal`, which makes the sample's `whole_rgb`.

        Raises:
            InputError: if a frame is missing, cannot be read or is of another size than the masks; names the track.
        """
        with _named(track.name):
            names = track.record.image_file_names
            if self.with_rgb:
                files = tuple(frame_file(self.images, name) for name in names)
            else:  # masks alone need no frames
                files = tuple(find_frame(self.images, name) or self.images / name for name in names)
            rgb = np.stack([read_frame(file, track.record.size) for file in files]) if self.with_rgb else None
            whole = cut_out_on_white(rgb, amodal) if rgb is not None and whole_is_visible else None
            return AmodalSample(track.name, modal, amodal, depth=None, rgb=rgb, whole_rgb=whole, files=files)


@contextmanager
def _named(name: str) -> Iterator[None]:
    """Put a track's name before what is wrong with it."""
    try:
        yield
    except InputError as error:
        raise InputError(f"{name}: {error}") from error
