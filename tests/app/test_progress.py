"""Time left of a completion, against the recorded events of real ones; no test waits."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from amodal_diffusion.app.progress import PARTS, Progress, Speeds, Work

RECORDED = json.loads(Path(__file__).with_name("progress_events.json").read_text())
"""Runs of the bundled model on a busy machine with two cores: an example with one and with four samples, a clip of 25
frames of 1280x800, and one of 150 frames. Each has its work, its events with their seconds, and its end."""


@dataclass(frozen=True)
class Look:
    """What a visitor sees at a time, and how much was left in truth."""

    at: float
    share: float
    left: float
    truth: float


def play(name: str, speeds: Speeds | None = None, *, slower: float = 1.0) -> Iterator[Look]:
    """Play a run at a hundred times; `slower` stretches its time."""
    run, now = RECORDED[name], 0.0
    work = Work(**{**run["work"], "formats": tuple(run["work"]["formats"])})
    progress = Progress(work, speeds or Speeds(), clock=lambda: now)
    events, end = list(run["events"]), run["end"]
    for number in range(100):
        at = number * end / 100
        while events and events[0][0] <= at:
            seconds, *event = events.pop(0)
            now = seconds * slower
            progress.note(*event)
        now = at * slower
        yield Look(number / 100, *progress.look(), (end - at) * slower)
    for seconds, *event in events:
        now = seconds * slower
        progress.note(*event)
    now = end * slower
    progress.finish()


def is_true(look: Look, end: float, factor: float = 2.0) -> bool:
    """Within a factor, or within 1.5 seconds or a twentieth of the whole."""
    return look.truth / factor <= look.left <= factor * look.truth or abs(look.left - look.truth) <= max(
        1.5, 0.05 * end
    )


@pytest.mark.parametrize("name", RECORDED)
def test_time_left_is_true_within_a_factor_of_two_after_the_first_tenth(name: str) -> None:
    for look in play(name):
        assert look.at < 0.1 or is_true(look, RECORDED[name]["end"]), look


@pytest.mark.parametrize("name", RECORDED)
def test_a_machine_five_times_slower_is_noticed_within_the_first_third(name: str) -> None:
    for look in play(name, slower=5):
        assert look.at < 0.34 or is_true(look, 5 * RECORDED[name]["end"], factor=3.0), look


@pytest.mark.parametrize("slower", [0.1, 8.0])
def test_a_second_run_knows_how_fast_the_first_was(slower: float) -> None:
    speeds = Speeds()
    assert len(list(play("person", speeds, slower=slower))) == 100
    assert set(speeds.factors) == set(PARTS)
    for look in play("person", speeds, slower=slower):
        assert look.at < 0.1 or is_true(look, slower * RECORDED["person"]["end"]), look


@pytest.mark.parametrize("name", RECORDED)
def test_the_bar_never_goes_back_and_never_says_done_too_early(name: str) -> None:
    shares = [look.share for look in play(name)]
    assert shares == sorted(shares)
    assert shares[0] < 0.05
    assert 0.8 < shares[-1] <= 1.0


def test_frames_in_which_nothing_is_hidden_take_no_pass() -> None:
    now = 0.0
    progress = Progress(Work(frames=100, objects=1, pixels=10_000, passes=40), Speeds(), clock=lambda: now)
    _, before = progress.look()
    progress.note("candidates", 5, 100)
    assert progress.look()[1] < before / 4
