"""Hide whole objects behind the moving masks of others: training data for what no data set shows, hidden colors."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch.utils.data import Dataset

from amodal_diffusion.data.index import TrackIndex
from amodal_diffusion.data.records import COMPLETE, TrackRecord
from amodal_diffusion.data.sailvos import SailVosDataset, Track
from amodal_diffusion.data.samples import AmodalSample
from amodal_diffusion.frames.masks import hidden_share
from amodal_diffusion.types import BoolArray, InputError

_MOST_REPLACED = 100  # tracks in a row that cannot be used: the data is to blame, not chance


@dataclass(frozen=True)
class Occlusion:
    """How a clip was hidden.

    Attributes:
        share: of the object that is hidden, see :func:`~amodal_diffusion.frames.masks.hidden_share`.
        already_hidden: tracks that were drawn before this one and left, as they are not complete.
        no_occluder: tracks that were drawn before this one and left, as no occluder fitted in the tries.
    """

    share: float
    already_hidden: int
    no_occluder: int


@dataclass(frozen=True)
class OccludedSample:
    """A clip and how it was hidden.

    Attributes:
        sample: with RGB of the whole object.
        occlusion: behind what.
    """

    sample: AmodalSample
    occlusion: Occlusion


class OccluderBank:
    """Masks of tracks, to put before others.

    An occluder keeps its own movement and its size in pixels; it is shifted as a whole, so that it meets the target
    in one frame.

    Args:
        tracks: whose amodal masks are the occluders.
        occlusion: least and largest share of the target that is hidden.
        tries: occluders that are drawn for one target.

    Raises:
        InputError: if the range is none or there is no try.
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
        """Put occluders before a target, one after the other, until enough of it is hidden.

        One that would hide too much is left out; so is the target's own track.

        Args:
            target: its record.
            whole: its mask, bool ``[F, H, W]``; not empty in every frame.
            generator: on the CPU.

        Returns:
            what stays visible, bool ``[F, H, W]``, of at least one pixel; None if the tries were not enough.
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

    The visible part of a complete track is taken for all of it: its colors are known.

    Args:
        targets: with RGB.
        bank: the occluders.
    """

    def __init__(self, targets: SailVosDataset, bank: OccluderBank) -> None:
        self.targets = targets
        self.bank = bank

    def __len__(self) -> int:
        """Number of tracks."""
        return len(self.targets)

    def name(self, index: int) -> str:
        """What messages call a track, without reading it; another may take its place."""
        return self.targets.name(index)

    def __getitem__(self, index: int) -> AmodalSample:
        """A track behind occluders that are always the same."""
        if not 0 <= index < len(self):
            raise IndexError(f"index: expected 0 to {len(self) - 1}, got {index}")
        return self.draw(index, generator=torch.Generator().manual_seed(index)).sample

    def whole(self, index: int) -> AmodalSample | None:
        """A track before anything is put before it; None if it cannot be a target.

        Raises:
            InputError: if the track is not as it should be.
        """
        track = self.targets.load(index)
        if not _is_complete(track):
            return None
        return self.targets.sample(track, modal=track.modal, amodal=track.modal, whole_is_visible=True)

    def draw(self, index: int, *, generator: torch.Generator) -> OccludedSample:
        """Hide a track; one that cannot be used is replaced by another of the file at random.

        Args:
            index: of the track.
            generator: on the CPU; all randomness comes from it.

        Raises:
            InputError: if a track is not as it should be, or none of many can be used.
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
            index = _draw(len(self.targets.tracks), generator)
        raise InputError(
            f"{self.targets.tracks.annotations}: of {_MOST_REPLACED} tracks drawn, {already_hidden} are already hidden "
            f"and {no_occluder} found no occluder; expected complete tracks, such as `amodal-diffusion prepare` sets "
            "apart, and an occlusion that the occluders can reach"
        )


def _is_complete(track: Track) -> bool:
    """Whether a track can be a target: it is there, and nearly all of it is visible."""
    return bool(track.modal.any()) and 1 - hidden_share(track.modal, track.amodal) > COMPLETE


def _draw(number: int, generator: torch.Generator) -> int:
    """One of the numbers from 0 on."""
    return int(torch.randint(number, (1,), generator=generator))


def _same(one: TrackRecord, other: TrackRecord) -> bool:
    return (one.obj_id, one.image_file_names[0]) == (other.obj_id, other.image_file_names[0])


def _meeting(occluder: BoolArray, whole: BoolArray, generator: torch.Generator) -> BoolArray:
    """Shift an occluder ``[F, h, w]`` so that a pixel of it and one of the target ``[F, H, W]`` meet in some frame.

    Returns:
        bool ``[F, H, W]``; empty if the two are never in the frame together.
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
    """Row and column of a pixel of a mask."""
    pixels = np.flatnonzero(mask)
    row, column = divmod(int(pixels[_draw(len(pixels), generator)]), mask.shape[1])
    return row, column


def _overlap(shift: int, source: int, target: int) -> tuple[slice, slice]:
    """Where a shifted axis of ``source`` pixels lies in one of ``target`` pixels: places in both."""
    start, stop = max(0, shift), min(target, source + shift)
    return slice(start, stop), slice(start - shift, stop - shift)
