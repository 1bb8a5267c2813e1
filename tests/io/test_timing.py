"""Which counts and times of frames mean damage."""

from __future__ import annotations

from typing import Any

import pytest

from amodal_diffusion.io.timing import DecodeTally, Span, describe, filled_ticks, joined_ticks, judge


def tally(times: list[float], **problems: int) -> DecodeTally:
    return DecodeTally(frames=len(times), times=times, last_shown=0.1, **problems)


STEADY = [index / 10 for index in range(30)]


def test_a_whole_video_is_sound() -> None:
    verdict = judge(tally(STEADY), duration=3.0, rate=10.0)
    assert (verdict.sound, verdict.expected, verdict.fps, verdict.positions) == (True, 30, 10.0, None)


def test_an_end_that_is_missing_is_found() -> None:
    verdict = judge(tally(STEADY[:20]), duration=3.0, rate=10.0)
    assert not verdict.sound
    assert verdict.positions == tuple(range(20))
    assert describe(tally(STEADY[:20]), verdict) == "20 of 30 frames decode (3 s x 10 frames a second)"


def test_a_missing_middle_is_found_and_placed() -> None:
    verdict = judge(tally(STEADY[:10] + STEADY[16:], corrupt=1), duration=3.0, rate=10.0)
    assert not verdict.sound
    assert verdict.positions == (*range(10), *range(16, 30))


HOLE = STEADY[:10] + STEADY[16:]


@pytest.mark.parametrize(
    ("left", "sound"),
    [
        ({}, True),  # nothing is left of the missing frames: they were never recorded
        ({"stored": STEADY}, False),  # packets that gave no frame
        ({"constant": True}, False),
        ({"spans": [Span(0.1, 1, 20)] * 23}, False),  # no pause in the times of decoding
        ({"spans": [Span(0.1, 1, 20)] * 22 + [Span(0.7, 1, 130)]}, True),  # AVI: an empty chunk for each
        ({"spans": [Span(0.1, 1, 20)] * 22 + [Span(0.7, 1, 5000)]}, False),  # bytes that no packet has
    ],
)
def test_frames_that_were_never_recorded_are_no_damage(left: dict[str, Any], sound: bool) -> None:
    found = DecodeTally(frames=24, times=HOLE, last_shown=0.1, **left)
    verdict = judge(found, duration=3.0, rate=10.0)
    assert verdict.sound == sound
    assert verdict.fps == pytest.approx(23 / 2.9 if sound else 10.0)


@pytest.mark.parametrize("rate", [60.0, 1000.0, 60000.0])
def test_a_nominal_rate_is_not_believed(rate: float) -> None:
    assert judge(tally(STEADY), duration=3.0, rate=rate).fps == pytest.approx(10.0)
    assert judge(tally([0.0]), duration=0.1, rate=rate).fps == pytest.approx(10.0)
    cut = judge(tally(STEADY[:20]), duration=3.0, rate=rate)
    assert (cut.sound, cut.expected, cut.positions) == (False, 30, tuple(range(20)))


def test_a_video_of_varying_rate_that_was_cut_is_told_in_seconds() -> None:
    found = tally([0.0, 0.1, 0.5, 0.6, 0.7, 1.5])
    told = describe(found, judge(found, duration=9.0, rate=1000.0))
    assert told == "6 frames decode, which last 1.6 of 9 s"


@pytest.mark.parametrize("problem", ["errors", "patched"])
def test_what_a_decoder_reports_counts(problem: str) -> None:
    verdict = judge(tally(STEADY, **{problem: 1}), duration=3.0, rate=10.0)
    assert not verdict.sound


def test_a_rate_that_varies_is_sound_and_averaged() -> None:
    times = [0.0, 0.1, 0.5, 0.6, 0.7, 1.5, 1.6, 2.8]
    verdict = judge(tally(times), duration=3.0, rate=10.0)
    assert verdict.sound
    assert verdict.fps == pytest.approx(7 / 2.8)


def test_a_varying_rate_hides_no_missing_end() -> None:
    assert not judge(tally([0.0, 0.1, 0.5, 0.6, 0.7, 1.5]), duration=9.0, rate=10.0).sound


@pytest.mark.parametrize("frames", [29, 30])
def test_a_duration_that_is_rounded_is_no_damage(frames: int) -> None:
    assert judge(tally(STEADY[:frames]), duration=3.04, rate=10.0).sound


def test_milliseconds_are_no_variable_rate() -> None:
    times = [round(index / 120, 3) for index in range(240)]
    assert judge(DecodeTally(frames=240, times=times), duration=2.0, rate=120.0).fps == 120.0


def test_one_frame_and_no_times() -> None:
    assert judge(tally([0.0]), duration=0.1, rate=10.0).sound
    assert judge(DecodeTally(frames=5), duration=None, rate=None).sound
    assert not judge(DecodeTally(), duration=None, rate=None).sound


def test_without_a_duration_only_the_count_is_told() -> None:
    broken = tally(STEADY[:4], errors=1)
    assert describe(broken, judge(broken, duration=None, rate=10.0)).startswith("4 frames decode (the file names no")


UNEVEN = [0.0, 0.1, 0.5, 0.6, 0.7, 1.5, 1.6, 2.8]


def test_frames_of_a_varying_rate_are_placed_among_the_packets() -> None:
    left = UNEVEN[:3] + UNEVEN[5:]
    damaged = DecodeTally(frames=6, times=left, last_shown=0.1, errors=1, stored=UNEVEN, indexed=True)
    assert judge(damaged, duration=3.0, rate=10.0).positions == (0, 1, 2, 5, 6, 7)


def test_without_an_index_only_a_beginning_is_placed() -> None:
    beginning = DecodeTally(frames=6, times=UNEVEN[:6], last_shown=0.1, stored=UNEVEN[:6])
    assert judge(beginning, duration=9.0, rate=10.0).positions == tuple(range(6))
    hole = DecodeTally(frames=6, times=UNEVEN[:6], last_shown=0.1, errors=1, stored=UNEVEN[:6])
    assert judge(hole, duration=1.6, rate=10.0).positions is None  # reaches the end: what is missing lies between


@pytest.mark.parametrize(
    ("ticks", "mended"),
    [
        ([0, 40, 80, 120, 0, 40, 80], [0, 40, 80, 120, 160, 200, 240]),
        ([1000, 1040, 1080, 200, 240, 100, 140, 180], [1000, 1040, 1080, 1120, 1160, 1200, 1240, 1280]),
        ([0, 40, 80, 120, None, 0, None, 80], [0, 40, 80, 120, None, 200, None, 280]),
        ([10, None, None, 130, 10, None, None, 130], [10, None, None, 130, 170, None, None, 290]),
        ([0, 40, 400, 440], [0, 40, 400, 440]),  # a pause is no join
        ([0, 80, 40, 120], [0, 80, 40, 120]),  # nor are frames in another order
        ([5], [5]),
        ([], []),
    ],
)
def test_pieces_follow_each_other(ticks: list[int | None], mended: list[int | None]) -> None:
    assert joined_ticks(ticks)[0] == mended


def test_a_jump_ahead_is_a_join_only_beyond_the_longest_pause() -> None:
    assert joined_ticks([0, 40, 80, 9000, 9040]) == ([0, 40, 80, 9000, 9040], [])
    assert joined_ticks([0, 40, 80, 9000, 9040], longest=400) == ([0, 40, 80, 120, 160], [-8880])


@pytest.mark.parametrize(
    ("ticks", "filled"),
    [
        ([0, None, 80, None, None, 200], [0, 40, 80, 120, 160, 200]),
        ([None, None, 80, 120, None], [0, 40, 80, 120, 160]),
        ([None, 5, None], []),
        ([], []),
    ],
)
def test_times_that_a_file_leaves_out(ticks: list[int | None], filled: list[int]) -> None:
    assert filled_ticks(ticks) == filled
