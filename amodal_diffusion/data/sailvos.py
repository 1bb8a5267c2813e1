"""Real clips: the tracks of an annotation file with their frames, in the layout of SAIL-VOS sequences."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor
from torch.utils.data import Dataset

from amodal_diffusion.data.index import TrackIndex
from amodal_diffusion.data.records import TrackRecord
from amodal_diffusion.data.samples import AmodalSample, views
from amodal_diffusion.frames.transforms import mask_to_unit, to_uint8, to_unit
from amodal_diffusion.io.images import SUFFIXES, read_rgb
from amodal_diffusion.propagation.mask_prior import View
from amodal_diffusion.types import BoolArray, FloatArray, InputError, UInt8Array


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


@dataclass(frozen=True)
class Look:
    """How a model looks at one frame of a track.

    Attributes:
        file: of the frame.
        view: the part of it that is seen, and at which size.
        read: reads the frame, uint8 ``[H, W, 3]``.
    """

    file: Path
    view: View
    read: Callable[[], UInt8Array]


class ClipDepth(Protocol):
    """Gives the depth of a clip's frames as a model sees them."""

    def __call__(self, looks: Sequence[Look]) -> FloatArray:
        """Depth of any scale, nearer is larger, float32 ``[F, h, w]``."""
        ...


class SailVosDataset(Dataset[AmodalSample]):
    """The tracks of an annotation file as a model sees them; only what an item needs is read, when it is asked for.

    Frames without a visible pixel are as good as others.

    Args:
        annotations: file in the layout of SAIL-VOS sequences, of any size.
        images: root of the frames; the annotation file's folder by default.
        frames: F; longer tracks give their first F frames.
        height: H in pixels.
        width: W in pixels.
        with_rgb: whether items have RGB, so whether frames are read; much slower with it.
        zoom: look at close-ups of the object, see :class:`~amodal_diffusion.frames.crop.CloseUp`; None at whole frames.
        index_folder: see :class:`~amodal_diffusion.data.index.TrackIndex`.
        limit: take the first so many tracks; all by default.
        depth: gives items their depth; without it they have none.

    Raises:
        InputError: if the annotation file cannot be used.
    """

    def __init__(
        self,
        annotations: Path,
        images: Path | None = None,
        *,
        frames: int,
        height: int,
        width: int,
        with_rgb: bool,
        zoom: float | None = None,
        index_folder: Path | None = None,
        limit: int | None = None,
        depth: ClipDepth | None = None,
    ) -> None:
        self.tracks = TrackIndex(annotations, folder=index_folder)
        self.images = annotations.parent if images is None else images
        self.frames = frames
        self.size = (height, width)
        self.with_rgb = with_rgb
        self.zoom = zoom
        self.depth = depth
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
        """Look at a track as a model does, with masks of its own or others.

        Frames are read, scaled and let go one by one.

        Args:
            track: gives name and frames.
            modal: visible part, bool ``[F, H, W]`` at the frames' size.
            amodal: whole object, contains `modal`.
            whole_is_visible: whether the frames show all of `amodal`, which makes the sample's `whole_rgb`.

        Raises:
            InputError: if a frame cannot be read or is of another size than the masks; names the track.
        """
        with _named(track.name):
            parts = views(modal, self.size, zoom=self.zoom)
            rgb: list[Tensor] = []
            modal_rgb: list[Tensor] = []
            whole_rgb: list[Tensor] = []
            for frame, part in enumerate(parts if self.with_rgb else []):
                values = to_unit(self._frame(track.record, frame)[None])  # [1, 3, H, W]
                rgb.append(part.apply(values, "edge"))
                modal_rgb.append(part.apply(_on_white(values, modal[frame]), 1.0))
                if whole_is_visible:
                    whole_rgb.append(part.apply(_on_white(values, amodal[frame]), 1.0))
            return AmodalSample(
                name=track.name,
                modal=_seen(parts, modal),
                amodal=_seen(parts, amodal),
                depth=None if self.depth is None else self.depth(self.looks(track, modal=modal)),
                rgb=_pixels(rgb),
                whole_rgb=_pixels(whole_rgb),
                modal_rgb=_pixels(modal_rgb),
            )

    def looks(self, track: Track, *, modal: BoolArray) -> list[Look]:
        """How a model looks at the frames of a track, without reading them.

        Args:
            track: gives the frames.
            modal: visible part, bool ``[F, H, W]``, which close-ups follow.

        Raises:
            InputError: if there is no such frame.
        """
        parts = views(modal, self.size, zoom=self.zoom)
        return [
            Look(self._file(track.record, frame), part, partial(self._frame, track.record, frame))
            for frame, part in enumerate(parts)
        ]

    def _file(self, record: TrackRecord, frame: int) -> Path:
        return frame_file(self.images, record.image_file_names[frame])

    def _frame(self, record: TrackRecord, frame: int) -> UInt8Array:
        """Read a frame, uint8 ``[H, W, 3]``."""
        return read_frame(self._file(record, frame), record.size)


@contextmanager
def _named(name: str) -> Iterator[None]:
    """Put a track's name before what is wrong with it."""
    try:
        yield
    except InputError as error:
        raise InputError(f"{name}: {error}") from error


def _seen(parts: Sequence[View], masks: BoolArray) -> BoolArray:
    """Masks as a model sees them, bool ``[F, h, w]``."""
    looks = [part.apply(mask_to_unit(masks[i : i + 1]), -1.0) >= 0 for i, part in enumerate(parts)]
    inside: BoolArray = torch.cat(looks)[:, 0].numpy()
    return inside


def _on_white(values: Tensor, mask: BoolArray) -> Tensor:
    """A frame in [-1, 1], ``[1, 3, H, W]``, white outside of a mask ``[H, W]``."""
    return torch.where(torch.from_numpy(mask), values, 1.0)


def _pixels(frames: list[Tensor]) -> UInt8Array | None:
    """Frames as 8-bit RGB ``[F, h, w, 3]``; None where there are none."""
    return to_uint8(torch.cat(frames)) if frames else None
