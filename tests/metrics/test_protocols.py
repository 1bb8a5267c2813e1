"""The protocols on frames worked by hand, and on recorded predictions with their expected scores."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path

import numpy as np
import pytest

from amodal_diffusion.basics import InputError
from amodal_diffusion.data.records import read_records
from amodal_diffusion.frames.masks import decode_rle, resize_masks
from amodal_diffusion.metrics import PROTOCOLS, Protocol, TrackScores, iou, score_frames, score_track, summarise
from amodal_diffusion.types import BoolArray


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


def test_a_miss_everywhere_is_zero_in_strict_and_absent_in_released() -> None:
    modal = np.zeros((2, 20, 20), dtype=np.bool_)
    modal[:, 2:10, 2:10] = True
    amodal = modal.copy()
    amodal[:, 2:10, 10:18] = True
    strict = summarise([score_track(modal, modal, amodal)])
    assert (strict.miou_occ.value, strict.miou_occ.frames) == (0.0, 2)
    released = summarise([score_track(modal, modal, amodal, protocol="released")])
    assert math.isnan(released.miou_occ.value)
    assert released.miou_occ.frames == 0
    assert strict.miou.value == released.miou.value == 1 / 2


def test_nothing_predicted_where_nothing_is() -> None:
    nothing = _strip((0, 0), (0, 0))
    strict = score_track(nothing, nothing, nothing)
    assert np.isnan([strict.miou, strict.miou_occ, strict.miou_hidden, strict.invented]).all()
    released = score_track(nothing, nothing, nothing, protocol="released")
    assert released.miou == 0.0  # published figures count such frames as misses
    assert math.isnan(released.miou_occ)


def test_a_frame_that_hides_nothing_counts_for_the_whole_alone() -> None:
    modal = _strip((2, 8))
    for protocol in PROTOCOLS:
        scores = score_track(_strip((2, 9)), modal, modal, protocol=protocol)
        assert scores.miou == 6 / 7
        assert math.isnan(scores.miou_occ)
        assert scores.invented == 1 / 6


def test_far_apart_masks_and_the_frame_around_them_change_no_score() -> None:
    generator = np.random.default_rng(0)
    small = [generator.random((3, 12, 17)) < share for share in (0.5, 0.3, 0.6)]
    wide = [np.pad(mask, ((0, 0), (40, 0), (0, 30))) for mask in small]
    for protocol in PROTOCOLS:
        one, other = (score_frames(*masks, protocol=protocol) for masks in (small, wide))
        if protocol == "strict":  # where the frame ends, released does not erode
            np.testing.assert_equal(vars(one), vars(other))
        np.testing.assert_equal(one.iou, other.iou)


def test_shapes_types_and_protocols_are_checked() -> None:
    with pytest.raises(InputError, match="prediction: expected bool"):
        score_frames(PREDICTION[:, :, :5], MODAL, AMODAL)
    with pytest.raises(InputError, match="modal: expected bool"):
        score_frames(PREDICTION, MODAL.astype(np.uint8), AMODAL)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="protocol: expected one of strict, released"):
        score_frames(PREDICTION, MODAL, AMODAL, protocol="lenient")  # type: ignore[arg-type]


@pytest.mark.skipif("AMODAL_SHARED" not in os.environ, reason="AMODAL_SHARED is not set: no recorded predictions")
def test_recorded_predictions_score_as_recorded() -> None:
    folder = Path(os.environ["AMODAL_SHARED"]) / "golden" / "metrics"
    predictions = json.loads((folder / "predictions.json").read_text())
    expected = json.loads((folder / "expected.json").read_text())
    tracks: dict[Protocol, list[TrackScores]] = {protocol: [] for protocol in PROTOCOLS}
    for record in read_records(folder / "annotations.json"):
        coded = [predictions[str((image, record.obj_id))]["diffvas_res_rle"] for image in record.image_ids]
        masks = resize_masks(np.stack([decode_rle(rle) for rle in coded]), *record.size)
        modal, amodal = record.modal_masks(), record.amodal_masks()
        for protocol, scores in tracks.items():
            scores.append(score_track(masks, modal, amodal, protocol=protocol))
    for protocol, scores in tracks.items():
        summary = summarise(scores)
        assert summary.miou.value == pytest.approx(expected[protocol]["miou"], abs=1e-6)
        assert summary.miou_occ.value == pytest.approx(expected[protocol]["miou_occ"], abs=1e-6)
        if protocol == "strict":
            assert summary.miou.frames == expected["strict"]["frames"]
            assert summary.miou_occ.frames == expected["strict"]["occluded_frames"]
