"""The files that keep tracks between processes: read back equal, whole or absent, and laid out as one JSON file."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from amodal_diffusion.evaluation.methods import build_methods
from amodal_diffusion.evaluation.results import ResultStore, SkippedTarget, TargetResult
from amodal_diffusion.evaluation.runner import Scorer
from amodal_diffusion.evaluation.scores import ContentScorer
from amodal_diffusion.frames.masks import decode_rle
from amodal_diffusion.metrics import TrackScores
from tests.squares import Guess, Squares


@pytest.fixture
def store(tmp_path: Path) -> ResultStore:
    (tmp_path / ResultStore.files(1)[0]).parent.mkdir()
    return ResultStore(tmp_path, 2)


def result_of(index: int = 1, *, boxes: bool = False) -> TargetResult:
    scorer = Scorer([*build_methods(["hull"]), Guess()], top_k=2, content=ContentScorer(), process=1)
    return scorer.score(Squares(boxes=boxes).track(index), index)


def assert_equal(one: object, other: object) -> None:
    """NaN equals itself; arrays and dataclasses are compared by content."""
    if hasattr(one, "__dataclass_fields__"):
        for name in one.__dataclass_fields__:
            assert_equal(getattr(one, name), getattr(other, name))
    elif isinstance(one, dict):
        assert isinstance(other, dict)
        assert list(one) == list(other)
        for key in one:
            assert_equal(one[key], other[key])
    elif isinstance(one, tuple) and one and hasattr(one[0], "__dataclass_fields__"):
        assert isinstance(other, tuple)
        for first, second in zip(one, other, strict=True):
            assert_equal(first, second)
    else:
        np.testing.assert_equal(one, other)


@pytest.mark.parametrize("boxes", [False, True])
def test_a_track_is_read_back_to_the_bit(store: ResultStore, boxes: bool) -> None:
    result = result_of(boxes=boxes)
    store.write(result)
    read = store.read(1)
    assert isinstance(read, TargetResult)
    assert_equal(read, result)
    assert read.process == 1
    if not boxes:
        (strict,) = {type(sample.scores.protocols["strict"]) for sample in read.methods["hull"].samples}  # type: ignore[union-attr]
        assert strict is TrackScores


def test_what_is_missing(store: ResultStore) -> None:
    assert store.missing(keep_skipped=True) == [0, 1]
    store.write(SkippedTarget(0, "squares/0", "damaged"))
    store.write(result_of(1))
    assert store.missing(keep_skipped=True) == []
    assert store.missing(keep_skipped=False) == [0]


def test_results_are_one_json_file_without_times(store: ResultStore, tmp_path: Path) -> None:
    store.write(SkippedTarget(0, "squares/0", "damaged"))
    store.write(result_of(1))
    store.write_results(tmp_path / "results.json", {"benchmark": "squares", "nothing": float("nan")})
    text = (tmp_path / "results.json").read_text(encoding="utf-8")
    content = json.loads(text)
    assert content["benchmark"] == "squares"
    assert content["nothing"] is None
    skipped, track = content["tracks"]
    assert skipped == {"index": 0, "identity": "squares/0", "skipped": "damaged"}
    assert list(track["methods"]) == ["hull", "guess"]
    samples = track["methods"]["guess"]["samples"]
    assert len(samples) == 2
    assert len(samples[0]["strict"]["occluded_iou"]) == 4
    assert samples[0]["strict"]["occluded_iou"][0] is None  # hides nothing
    assert decode_rle(samples[0]["masks"][0]).shape == (24, 48)
    assert "seconds" not in text
    assert "process" not in text
