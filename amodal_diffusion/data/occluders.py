"""Synthetic occlusion of complete tracks, which gives training data with known occluded colors."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch.utils.data import Dataset

from amodal_diffusion.basics import InputError
from amodal_diffusion.data.index import TrackIndex
from amodal_diffusion.data.records import COMPLETE, TrackRecord
from amodal_diffusion.data.sailvos import Track, TrackSource
from amodal_diffusion.data.samples import AmodalSample
from amodal_diffusion.frames.masks import hidden_share
from amodal_diffusion.types import BoolArray

_MOST_REPLACED = 100  # unusable tracks in a row, after which the data must be at fault


@dataclass(frozen=True)
class Occlusion:
    """Statistics of one occluded clip.

    Attributes:
        share: occluded share of the object, see :func:`~amodal_diffusion.frames.masks.hidden_share`.
        already_hidden: tracks drawn before this one and rejected because they are not complete.
        no_occluder: tracks drawn before this one and rejected because no occluder fitted within the tries.
    """

    share: float
    already_hidden: int
    no_occluder: int


@dataclass(frozen=True)
class OccludedSample:
    """An occluded clip and its statistics.

    Attributes:
        sample: the clip, with RGB of the complete object.
        occlusion: how it was occluded.
    """

    sample: AmodalSample
    occlusion: Occlusion


class OccluderBank:
    """Masks of tracks that serve as occluders of other tracks.

    An occluder keeps its motion and its size in pixels. It is shifted by one offset for all frames so that it meets the
    target in one frame.

    Args:
        tracks: tracks whose amodal masks are the occluders.
        occlusion: smallest and largest share of the target to occlude.
        tries: number of occluders drawn per target.

    Raises:
        InputError: if the range is invalid or `tries` is less than 1.
    """

    def __init__(self, tracks: TrackIndex, *, occlusion: tuple[float, float], tries: int) -> None:
        if not 0.0 < occlusion[0] < occlusion[1] <= 1.0:
            raise InputError(
                f"occlusion: expected two shares, 0 < least < largest <= 1, got {occlusion[0]} and {occlusion[1]}"
            )
        if tries < 1:
            raise InputError(f"tries: expected at least 1, got {tries}")
        self.tracks = tracks
        self.occlusion = occlusion
        self.tries = tries

    def hide(self, target: TrackRecord, whole: BoolArray, *, generator: torch.Generator) -> BoolArray | None:
        """Put occluders in front of a target, one after another, until enough of it is occluded.

        Occluders that would hide too much are skipped, and so is the target's own track.

        Args:
            target: record of the target.
            whole: amodal mask of the target, bool ``[F, H, W]``; not empty in every frame.
            generator: on the CPU.

        Returns:
            modal mask, bool ``[F, H, W]``, with at least one pixel; None if the tries were not enough.
        """
        least, largest = self.occlusion
        visible = whole
        for _ in range(self.tries):
            occluder = self.tracks.record(_draw(len(self.tracks), generator))
            if occluder.num_frames < len(whole) or _same(occluder, target):
                continue
            left = visible & ~_meeting(occluder.first(len(whole)).amodal_masks(), whole, generator)
            share = hidden_share(left, whole)
            if share > largest or not left.any():
                continue
            if share >= least:
                return left
            visible = left
        return None


class OccludedTracks(Dataset[AmodalSample]):
    """Complete tracks, hidden behind occluders.

    The visible part of a complete track serves as its amodal mask, because its colors are known.

    Args:
        targets: data set with RGB; tracks that are not complete are replaced.
        bank: the occluders.
    """

    def __init__(self, targets: TrackSource, bank: OccluderBank) -> None:
        self.targets = targets
        self.bank = bank

    def __len__(self) -> int:
        """Number of tracks."""
        return len(self.targets)

    def name(self, index: int) -> str:
        """Name of a track in messages, without reading it; another track may replace it."""
        return self.targets.name(index)

    def __getitem__(self, index: int) -> AmodalSample:
        """The track behind occluders that are the same at every call."""
        if not 0 <= index < len(self):
            raise IndexError(f"index: expected 0 to {len(self) - 1}, got {index}")
        return self.draw(index, generator=torch.Generator().manual_seed(index)).sample

    def whole(self, index: int) -> AmodalSample | None:
        """Read a track without occluders; None if it cannot be a target.

        Raises:
            InputError: if the track is invalid.
        """
        return whole_sample(self.targets, index)

    def draw(self, index: int, *, generator: torch.Generator) -> OccludedSample:
        """Occlude a track; an unusable track is replaced by a random one of the file.

        Args:
            index: number of the track.
            generator: on the CPU; source of all randomness.

        Raises:
            InputError: if a track is invalid, or too many tracks in a row are unusable.
        """
        already_hidden = no_occluder = 0
        while already_hidden + no_occluder < _MOST_REPLACED:
            track = self.targets.load(index)
            if not _is_complete(track):
                already_hidden += 1
            else:
                visible = self.bank.hide(track.record, track.modal, generator=generator)
                if visible is not None:
                    share = hidden_share(visible, track.modal)
                    sample = self.targets.sample(track, modal=visible, amodal=track.modal, whole_is_visible=True)
                    return OccludedSample(sample, Occlusion(share, already_hidden, no_occluder))
                no_occluder += 1
            index = _draw(self.targets.available, generator)
        raise InputError(
            f"{self.targets.source}: of {_MOST_REPLACED} tracks drawn, {already_hidden} are already hidden "
            f"and {no_occluder} found no occluder; use complete tracks, as `amodal-diffusion prepare` writes, and a "
            "range of occlusion that the occluders can reach"
        )


def whole_sample(targets: TrackSource, index: int) -> AmodalSample | None:
    """Read a track without occluders; None if the object is hidden in part or absent, so that it cannot be a target.

    Raises:
        InputError: if the track is invalid.
    """
    track = targets.load(index)
    if not _is_complete(track):
        return None
    return targets.sample(track, modal=track.modal, amodal=track.modal, whole_is_visible=True)


def _is_complete(track: Track) -> bool:
    """Whether a track can be a target: the object is present and nearly fully visible."""
    return bool(track.modal.any()) and 1 - hidden_share(track.modal, track.amodal) > COMPLETE


def _draw(number: int, generator: torch.Generator) -> int:
    """A random integer in [0, ``number``)."""
    return int(torch.randint(number, (1,), generator=generator))


def _same(one: TrackRecord, other: TrackRecord) -> bool:
    return (one.obj_id, one.image_file_names[0]) == (other.obj_id, other.image_file_names[0])


def _meeting(occluder: BoolArray, whole: BoolArray, generator: torch.Generator) -> BoolArray:
    """Shift an occluder ``[F, h, w]`` so that one of its pixels meets one of the target ``[F, H, W]`` in some frame.

    Returns:
        bool ``[F, H, W]``; empty if occluder and target are never present in the same frame.
    """
    together = np.flatnonzero(occluder.any(axis=(1, 2)) & whole.any(axis=(1, 2)))
    shifted = np.zeros_like(whole)
    if len(together) == 0:
        return shifted
    frame = int(together[_draw(len(together), generator)])
    row, column = (
        int(there) - int(here)
        for there, here in zip(_pixel(whole[frame], generator), _pixel(occluder[frame], generator), strict=True)
    )
    rows, source_rows = _overlap(row, occluder.shape[1], whole.shape[1])
    columns, source_columns = _overlap(column, occluder.shape[2], whole.shape[2])
    shifted[:, rows, columns] = occluder[:, source_rows, source_columns]
    return shifted


def _pixel(mask: BoolArray, generator: torch.Generator) -> tuple[int, int]:
    """Row and column of a random pixel of a mask."""
    pixels = np.flatnonzero(mask)
    row, column = divmod(int(pixels[_draw(len(pixels), generator)]), mask.shape[1])
    return row, column


def _overlap(shift: int, source: int, target: int) -> tuple[slice, slice]:
    """Slices into the target and source axes where the shifted source overlaps the target."""
    start, stop = max(0, shift), min(target, source + shift)
    return slice(start, stop), slice(start - shift, stop - shift)
