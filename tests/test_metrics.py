"""The protocols on frames worked by hand, and on recorded predictions with their expected scores."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path

import numpy as np
import pytest

from amodal_diffusion.data.records import read_records
from amodal_diffusion.metrics import PROTOCOLS, Protocol, TrackScores, iou, pool, score_frames, score_track, summarise
from amodal_diffusion.types import BoolArray, InputError
from amodal_diffusion.video.masks import decode_rle, resize_masks


def _strip(*runs: tuple[int, int]) -> BoolArray:
    """Frames of one row of ten pixels, each filled from a first to before a last column."""
    masks = np.zeros((len(runs), 1, 10), dtype=np.bool_)
    for mask, (first, last) in zip(masks, runs, strict=True):
        mask[0, first:last] = True
    return masks


MODAL = _strip((0, 4), (0, 4), (0, 0), (0, 6), (0, 0))
AMODAL = _strip((0, 8), (0, 4), (2, 6), (0, 8), (0, 0))
PREDICTION = _strip((3, 6), (0, 6), (2, 4), (0, 6), (0, 3))
"""Half of the hidden part; invented; fully hidden; a miss; nothing there at all."""


def test_iou_is_undefined_where_both_are_empty() -> None:
    np.testing.assert_equal(iou(_strip((0, 4), (0, 0)), _strip((2, 6), (0, 0))), [2 / 6, math.nan])


def test_strict_frames_by_hand() -> None:
    scores = score_frames(PREDICTION, MODAL, AMODAL)
    np.testing.assert_equal(scores.iou, [6 / 8, 4 / 6, 2 / 4, 6 / 8, math.nan])
    np.testing.assert_equal(scores.occluded_iou, [2 / 4, math.nan, 2 / 4, 0.0, math.nan])
    np.testing.assert_equal(scores.hidden_iou, [math.nan, math.nan, 2 / 4, math.nan, math.nan])
    np.testing.assert_equal(scores.invented, [math.nan, 2, math.nan, math.nan, 3])
    np.testing.assert_equal(scores.visible, [math.nan, 4, math.nan, math.nan, 0])


def test_a_track_is_the_mean_of_its_counting_frames() -> None:
    track = score_track(PREDICTION, MODAL, AMODAL)
    assert track.miou == pytest.approx((6 / 8 + 4 / 6 + 2 / 4 + 6 / 8) / 4)
    assert track.miou_occ == pytest.approx((2 / 4 + 2 / 4 + 0) / 3)
    assert track.miou_hidden == pytest.approx(2 / 4)
    assert track.invented == pytest.approx((2 + 3) / 4)


def test_released_erodes_and_forgets_misses() -> None:
    modal = np.zeros((2, 20, 20), dtype=np.bool_)
    amodal, prediction = modal.copy(), modal.copy()
    amodal[:, 5:14, 5:14] = True  # 9 x 9, eroded by two on each side: 5 x 5
    prediction[0, 5:14, 5:12] = True  # 9 x 7 -> 5 x 3
    prediction[1, 0:3, 0:3] = True  # misses
    released = score_frames(prediction, modal, amodal, protocol="released")
    np.testing.assert_equal(released.occluded_iou, [15 / 25, math.nan])
    strict = score_frames(prediction, modal, amodal)
    np.testing.assert_allclose(strict.occluded_iou, [63 / 81, 0.0])


def test_the_image_border_does_not_erode() -> None:
    modal = np.zeros((1, 20, 20), dtype=np.bool_)
    amodal, prediction = modal.copy(), modal.copy()
    amodal[:, :6, :6] = True  # in the corner: 4 x 4 is left
    prediction[:, :6, :4] = True  # 4 x 2
    np.testing.assert_allclose(score_frames(prediction, modal, amodal, protocol="released").occluded_iou, [8 / 16])


def test_pooling_weighs_frames_and_its_error_tracks() -> None:
    pooled = pool([np.asarray([1.0, 1.0, math.nan]), np.asarray([0.0]), np.asarray([math.nan])])
    assert pooled.value == pytest.approx(2 / 3)
    assert pooled.track_mean == pytest.approx(1 / 2)
    assert (pooled.frames, pooled.tracks) == (3, 2)
    # Residuals of the tracks' sums: 2 - 2 * 2/3 and 0 - 2/3.
    assert pooled.standard_error == pytest.approx(math.sqrt(2 * ((2 / 3) ** 2 + (2 / 3) ** 2)) / 3)


def test_pooling_nothing_is_not_a_number() -> None:
    empty = pool([np.asarray([math.nan])])
    assert math.isnan(empty.value)
    assert (empty.frames, empty.tracks) == (0, 0)
    assert math.isnan(pool([np.asarray([0.5, 0.7])]).standard_error)


def test_shapes_types_and_protocols_are_checked() -> None:
    with pytest.raises(InputError, match="prediction: expected bool"):
        score_frames(PREDICTION[:, :, :5], MODAL, AMODAL)
    with pytest.raises(InputError, match="modal: expected bool"):
        score_frames(PREDICTION, MODAL.astype(np.uint8), AMODAL)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="protocol: expected one of strict, released"):
        score_frames(PREDICTION, MODAL, AMODAL, protocol="lenient")  # type: ignore[arg-type]


@pytest.mark.skipif("AMODAL_SHARED" not in os.environ, reason="AMODAL_SHARED is not set: no recorded predictions")
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_recorded_predictions_score_as_recorded(protocol: Protocol) -> None:
    folder = Path(os.environ["AMODAL_SHARED"]) / "golden" / "metrics"
    predictions = json.loads((folder / "predictions.json").read_text())
    expected = json.loads((folder / "expected.json").read_text())
    tracks: list[TrackScores] = []
    for record in read_records(folder / "annotations.json"):
        coded = [predictions[str((image, record.obj_id))]["diffvas_res_rle"] for image in record.image_ids]
        prediction = resize_masks(np.stack([decode_rle(rle) for rle in coded]), *record.size)
        tracks.append(score_track(prediction, record.modal_masks(), record.amodal_masks(), protocol=protocol))
    summary = summarise(tracks)
    assert summary.miou.value == pytest.approx(expected[protocol]["miou"], abs=1e-6)
    assert summary.miou_occ.value == pytest.approx(expected[protocol]["miou_occ"], abs=1e-6)
    if protocol == "strict":
        assert summary.miou.frames == expected["strict"]["frames"]
        assert summary.miou_occ.frames == expected["strict"]["occluded_frames"]
