"""Cutting clips: windows, frame rate, what is left out and why, and which objects count as complete."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from amodal_diffusion.basics import InputError
from amodal_diffusion.data.folder_source import VideoObject
from amodal_diffusion.data.prepare import ClipSettings, PrepareReport, prepare
from amodal_diffusion.data.records import TrackRecord, bounding_box, read_records
from amodal_diffusion.frames.masks import encode_rle, hidden_share
from amodal_diffusion.types import BoolArray
from tests.tracks import square

LENGTH = 20
WHOLE = square(LENGTH, 24, [(4, frame % 12) for frame in range(LENGTH)], side=8)


def _track(modal: BoolArray, amodal: BoolArray = WHOLE, *, obj_id: int = 1) -> VideoObject:
    def coded(masks: BoolArray) -> list:  # type: ignore[type-arg]
        return [encode_rle(mask) if mask.any() else None for mask in masks]

    return VideoObject(
        name=f"object {obj_id}",
        obj_id=obj_id,
        category_id=3,
        size=(24, 24),
        image_ids=range(100, 100 + len(modal)),
        image_file_names=[f"{frame}.png" for frame in range(len(modal))],
        modal=coded(modal),
        amodal=coded(amodal),
    )


def _hidden(share: float) -> BoolArray:
    """The whole with a share of its rows hidden."""
    modal = WHOLE.copy()
    modal[:, : 4 + round(8 * share)] = False
    return modal


def _prepare(
    folder: Path, tracks: Sequence[VideoObject], **settings: object
) -> tuple[PrepareReport, tuple[TrackRecord, ...], tuple[TrackRecord, ...]]:
    clips, complete = folder / "annotations.json", folder / "complete.json"
    report = prepare(tracks, ClipSettings(**settings), annotations=clips, complete=complete)  # type: ignore[arg-type]
    return report, read_records(clips), read_records(complete)


def test_clips_are_windows_of_the_track(tmp_path: Path) -> None:
    modal = _hidden(0.5)
    report, records, _ = _prepare(tmp_path, [_track(modal)], frames=8, stride=5)
    assert [record.image_ids for record in records] == [tuple(range(start, start + 8)) for start in (100, 105, 110)]
    assert report.clips == 3
    for record, start in zip(records, (0, 5, 10), strict=True):
        np.testing.assert_array_equal(record.modal_masks(), modal[start : start + 8])
        np.testing.assert_array_equal(record.amodal_masks(), WHOLE[start : start + 8])
        assert record.bbox == tuple(bounding_box(mask) for mask in WHOLE[start : start + 8])
        assert record.image_file_names == tuple(f"{frame}.png" for frame in range(start, start + 8))
        assert (record.obj_id, record.category_id) == (1, 3)


@pytest.mark.parametrize(
    ("source_fps", "expected"), [(30.0, [0, 4, 8, 11, 15, 19]), (8.0, list(range(20))), (16.0, list(range(0, 20, 2)))]
)
def test_the_frame_rate_is_lowered_evenly(source_fps: float, expected: list[int]) -> None:
    assert ClipSettings(fps=8.0, source_fps=source_fps).positions(LENGTH) == expected


def test_the_frame_rate_comes_before_the_windows(tmp_path: Path) -> None:
    _, records, _ = _prepare(tmp_path, [_track(WHOLE)], frames=4, fps=4.0, source_fps=8.0)
    assert [record.image_ids for record in records] == [(100, 102, 104, 106), (108, 110, 112, 114)]


def test_what_is_left_out_is_counted_by_reason(tmp_path: Path) -> None:
    nowhere, seldom = np.zeros_like(WHOLE), WHOLE.copy()
    seldom[2:] = False
    tracks = [
        _track(WHOLE[:7], WHOLE[:7]),
        _track(nowhere),
        _track(seldom, seldom),
        _track(square(LENGTH, 24, [(1, 1)] * LENGTH, side=3), square(LENGTH, 24, [(1, 1)] * LENGTH, side=3)),
        _track(_hidden(0.75)),
        _track(_hidden(0.25), obj_id=6),
    ]
    report, records, complete = _prepare(tmp_path, tracks, frames=8, stride=8, min_size=4, occlusion=(0.1, 0.5))
    assert report.tracks == 6
    assert report.dropped == {
        "shorter than 8 frames": 1,
        "never visible": 3,  # in the second clip of the third track too
        "inside the image in too few frames": 1,
        "too small": 2,
        "outside the range of occlusion": 2,
    }
    assert [record.obj_id for record in records] == [6, 6]
    assert complete == ()
    assert all(0.1 <= hidden_share(r.modal_masks(), r.amodal_masks()) <= 0.5 for r in records)


def test_complete_objects_are_written_whatever_the_range(tmp_path: Path) -> None:
    dented = WHOLE.copy()
    dented[:, 4, :2] = False
    nearly, half = WHOLE & ~(np.cumsum(WHOLE, axis=2) > 7), _hidden(0.5)
    tracks = [_track(modal, obj_id=number) for number, modal in enumerate((WHOLE, dented, nearly, half), start=1)]
    report, records, complete = _prepare(tmp_path, tracks, frames=LENGTH, occlusion=(0.1, 1.0))
    assert [record.obj_id for record in complete] == [1, 2]
    assert [record.obj_id for record in records] == [3, 4]
    assert (report.clips, report.complete) == (2, 2)
    assert 1 - hidden_share(complete[1].modal_masks(), complete[1].amodal_masks()) > 0.95


def test_visible_pixels_outside_of_the_whole_are_added_and_counted(tmp_path: Path) -> None:
    amodal = WHOLE.copy()
    amodal[3, :, :5] = False
    report, records, _ = _prepare(tmp_path, [_track(WHOLE, amodal)], frames=LENGTH)
    assert report.outside == 1
    np.testing.assert_array_equal(records[0].amodal_masks(), WHOLE)


def test_a_damaged_mask_is_named(tmp_path: Path) -> None:
    track = _track(WHOLE)
    track.modal[4] = {"size": [24, 24], "counts": "00"}  # type: ignore[index]
    with pytest.raises(InputError, match="object 1: frame 4: rle: expected runs that fill 24 x 24"):
        _prepare(tmp_path, [track], frames=4)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"frames": 0}, "frames: expected at least 1"),
        ({"stride": 0}, "stride: expected at least 1"),
        ({"min_present": 2.0}, "min_present: expected a share"),
        ({"occlusion": (0.5, 0.2)}, "occlusion: expected two shares"),
        ({"fps": 8.0}, "fps: expected above 0 and at most source_fps, got 8.0 of None"),
        ({"fps": 8.0, "source_fps": 4.0}, "fps: expected above 0 and at most source_fps"),
    ],
)
def test_settings_out_of_range_are_refused(settings: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        ClipSettings(**settings)  # type: ignore[arg-type]
