"""Occluders: they move as they did, hide as much as asked, never hide what is hidden already, and are counted."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from amodal_diffusion.basics import InputError
from amodal_diffusion.data.index import TrackIndex
from amodal_diffusion.data.occluders import OccludedTracks, OccluderBank
from amodal_diffusion.data.records import TrackRecord, write_records
from amodal_diffusion.data.sailvos import SailVosDataset
from amodal_diffusion.frames.masks import cut_out_on_white, hidden_share
from tests.tracks import FRAMES, record_of, square, write_tracks

WHOLE = square(3, 32, [(10, 10), (11, 10), (12, 10)], side=8)
TARGET = record_of(WHOLE, WHOLE)


def _seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _bank(
    folder: Path, records: Sequence[TrackRecord], *, occlusion: tuple[float, float] = (0.3, 0.9), tries: int = 5
) -> OccluderBank:
    write_records(folder / "occluders.json", records)
    return OccluderBank(TrackIndex(folder / "occluders.json"), occlusion=occlusion, tries=tries)


def _squares(side: int) -> TrackRecord:
    places = [(2, 1), (2, 4), (2, 7)]  # moves right by 3 pixels a frame, the target down by 1
    masks = square(3, 24, places, side=side)
    return record_of(masks, masks, obj_id=side, clip="other")


def test_what_is_hidden_stays_inside_the_range(tmp_path: Path) -> None:
    bank = _bank(tmp_path, [_squares(side) for side in (3, 5, 7, 12)], occlusion=(0.2, 0.5), tries=8)
    shares = []
    for seed in range(60):
        visible = bank.hide(TARGET, WHOLE, generator=_seeded(seed))
        if visible is not None:
            assert not (visible & ~WHOLE).any()
            shares.append(hidden_share(visible, WHOLE))
    assert len(shares) > 40
    assert 0.2 <= min(shares) < 0.3
    assert 0.4 < max(shares) <= 0.5


def test_an_occluder_moves_with_its_own_track(tmp_path: Path) -> None:
    bank = _bank(tmp_path, [_squares(6)], occlusion=(0.01, 1.0), tries=1)
    moved = 0
    for seed in range(30):
        visible = bank.hide(TARGET, WHOLE, generator=_seeded(seed))
        if visible is None:
            continue
        hidden = WHOLE & ~visible
        corners = [np.argwhere(mask).min(axis=0) for mask in hidden if mask.any()]
        # One shift for the whole clip: what it hides lies inside its own square, shifted by as much in every frame.
        spots = [
            (row, column)
            for row in range(-8, 32)
            for column in range(-8, 32)
            if all(_covers(mask, row, column + 3 * frame, WHOLE[frame]) for frame, mask in enumerate(hidden))
        ]
        assert spots
        moved += len({tuple(corner) for corner in corners}) > 1
    assert moved > 10


def _covers(hidden: np.ndarray, row: int, column: int, whole: np.ndarray) -> bool:
    """Whether a square of 6 pixels at a place hides exactly this of a mask."""
    cover = np.zeros_like(whole)
    cover[max(0, row) : max(0, row + 6), max(0, column) : max(0, column + 6)] = True
    return bool((hidden == (whole & cover)).all())


def test_it_follows_from_the_generator_alone(tmp_path: Path) -> None:
    bank = _bank(tmp_path, [_squares(side) for side in (3, 5, 7)], occlusion=(0.1, 0.9))
    first, again, other = (bank.hide(TARGET, WHOLE, generator=_seeded(seed)) for seed in (4, 4, 5))
    assert first is not None
    assert other is not None
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


def test_none_fits_where_all_are_too_large_too_small_too_short_or_the_target_itself(tmp_path: Path) -> None:
    huge = np.ones((3, 500, 500), dtype=np.bool_)
    for record in (
        record_of(huge, huge, clip="huge"),
        _squares(1),
        record_of(WHOLE[:2], WHOLE[:2], clip="short"),
        TARGET,
        record_of(~huge, ~huge, clip="absent"),
    ):
        bank = _bank(tmp_path, [record])
        assert all(bank.hide(TARGET, WHOLE, generator=_seeded(seed)) is None for seed in range(4))


def test_a_range_that_is_none_is_refused(tmp_path: Path) -> None:
    for occlusion in ((0.0, 0.5), (0.5, 0.5), (0.7, 0.2), (0.5, 1.1)):
        with pytest.raises(InputError, match="occlusion: expected two shares, 0 < least < largest <= 1"):
            _bank(tmp_path, [TARGET], occlusion=occlusion)
    with pytest.raises(InputError, match="tries: expected at least 1, got 0"):
        _bank(tmp_path, [TARGET], tries=0)


@pytest.fixture(scope="module")
def annotations(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tracks(tmp_path_factory.mktemp("scenes"), 6)


def _occluded(annotations: Path, *, tries: int = 8) -> OccludedTracks:
    targets = SailVosDataset(annotations, frames=FRAMES, with_rgb=True)
    return OccludedTracks(targets, OccluderBank(targets.tracks, occlusion=(0.2, 0.9), tries=tries))


def test_a_sample_shows_what_is_left_and_knows_the_whole(annotations: Path) -> None:
    dataset = _occluded(annotations)
    drawn = [dataset.draw(index, generator=_seeded(index)) for index in range(len(dataset))]
    for entry in drawn:
        sample = entry.sample
        assert sample.rgb is not None
        assert sample.whole_rgb is not None
        assert 0.2 <= hidden_share(sample.modal, sample.amodal) <= 0.9
        assert entry.occlusion.share == hidden_share(sample.modal, sample.amodal)
        np.testing.assert_array_equal(sample.whole_rgb, cut_out_on_white(sample.rgb, sample.amodal))
        assert not (sample.modal & ~sample.amodal).any()


def test_hidden_tracks_are_no_targets_and_replacements_are_counted(annotations: Path) -> None:
    dataset = _occluded(annotations)
    tracks = [dataset.targets.load(index) for index in range(len(dataset))]
    complete = [hidden_share(track.modal, track.amodal) < 0.05 for track in tracks]
    assert 0 < sum(complete) < len(tracks)
    for index in range(len(dataset)):
        entry = dataset.draw(index, generator=_seeded(index))
        used = next(place for place, track in enumerate(tracks) if track.name == entry.sample.name)
        assert complete[used]
        assert used == index or entry.occlusion.already_hidden + entry.occlusion.no_occluder > 0
        assert complete[index] or entry.occlusion.already_hidden > 0
    few = sum(_occluded(annotations, tries=1).draw(0, generator=_seeded(s)).occlusion.no_occluder for s in range(5))
    many = sum(_occluded(annotations, tries=20).draw(0, generator=_seeded(s)).occlusion.no_occluder for s in range(5))
    assert few > many


def test_an_item_is_always_the_same(annotations: Path) -> None:
    first, again = _occluded(annotations)[2], _occluded(annotations)[2]
    np.testing.assert_array_equal(first.modal, again.modal)
    with pytest.raises(IndexError):
        _occluded(annotations)[99]


def test_data_without_a_complete_track_is_refused(tmp_path: Path) -> None:
    half = WHOLE.copy()
    half[:, :14] = False
    write_records(tmp_path / "hidden.json", [record_of(half, WHOLE)])
    targets = SailVosDataset(tmp_path / "hidden.json", frames=3, with_rgb=True)
    bank = _bank(tmp_path, [_squares(5)])
    with pytest.raises(InputError, match="of 100 tracks drawn, 100 are already hidden and 0 found no occluder"):
        OccludedTracks(targets, bank).draw(0, generator=_seeded(0))
