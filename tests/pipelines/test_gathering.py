"""Several objects at once: what each gets, who shares a call, how time is counted, and how errors end it all."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError
from typing import Any

import numpy as np
import pytest
import torch

from amodal_diffusion.pipelines import gathering
from amodal_diffusion.pipelines.completer import AmodalCompleter, FrameInput
from amodal_diffusion.pipelines.gathering import run_gathered
from amodal_diffusion.pipelines.network_calls import Answered, Ask
from amodal_diffusion.pipelines.occlusion_intervals import Span, Spans
from amodal_diffusion.pipelines.tally import Tally
from amodal_diffusion.types import AmodalResult, InputError
from tests.factories import moving_square, tiny_completer_folder

FRAMES = (7, 7, 4, 10)  # of the objects; windows of 4 that share one
SECONDS = 0.2  # that a call takes where it is made up


@pytest.fixture(scope="module")
def completer(tmp_path_factory: pytest.TempPathFactory) -> AmodalCompleter:
    return AmodalCompleter.from_pretrained(tiny_completer_folder(tmp_path_factory.mktemp("model")), device="cpu")


def read(completer: AmodalCompleter, number: int, ask: Ask, tally: Tally, samples: int) -> list[AmodalResult]:
    """Complete an object of a clip of its own; they differ in pictures, length and spans."""
    clip = moving_square(FRAMES[number], seed=number)
    frames = (FrameInput(rgb, modal) for rgb, modal in zip(clip.rgb, clip.modal_mask, strict=True))
    spans = Spans(FRAMES[number], (Span(number % 2, FRAMES[number], ("asked for",)),))
    return list(completer.stream(frames, spans=spans, samples=samples, guidance_scale=1.5, ask=ask, tally=tally))


@pytest.mark.parametrize(("at_once", "samples"), [(2, 1), (3, 2), (9, 1)])
def test_objects_at_once_get_what_they_get_alone(completer: AmodalCompleter, at_once: int, samples: int) -> None:
    found: dict[int, dict[int, list[AmodalResult]]] = {1: {}, at_once: {}}
    for together, results in found.items():
        tallies = [Tally() for _ in FRAMES]

        def task(number: int, ask: Ask, results: Any = results, tallies: Any = tallies) -> None:
            results[number] = read(completer, number, ask, tallies[number], samples)

        run_gathered([lambda ask, number=number, task=task: task(number, ask) for number in range(4)], at_once=together)
        assert all(spent > 0 for tally in tallies for spent in tally.seconds.values())
    for number, alone in found[1].items():
        for one, other in zip(alone, found[at_once][number], strict=True):
            assert np.array_equal(one.amodal_mask, other.amodal_mask)
            assert one.rgba is not None
            assert other.rgba is not None
            assert np.array_equal(one.rgba, other.rgba)
    assert sum(completer.seconds.values()) == 0  # each stream has a tally of its own


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[list[str]]]:
    """A network made up, which takes its time; what each call of it is asked."""
    asked: list[list[str]] = []

    def run(questions: list[Any]) -> list[Answered]:
        assert threading.current_thread() is threading.main_thread()
        asked.append(list(questions))
        time.sleep(SECONDS)
        share = SECONDS / len(questions)
        return [Answered(torch.tensor(float(len(str(question)))), share) for question in questions]

    before = threading.active_count()
    monkeypatch.setattr(gathering, "run_calls", run)
    yield asked
    assert threading.active_count() == before


def asking(
    name: str, times: int, *, pause: float = 0.0, waited: dict[str, float] | None = None
) -> Callable[[Ask], None]:
    """A task that asks a number of times, and thinks before."""

    def task(ask: Ask) -> None:
        started = ask.clock()
        for number in range(times):
            time.sleep(pause)
            assert float(ask(f"{name}{number}")) == len(name) + 1  # type: ignore[arg-type]
        if waited is not None:
            waited[name] = ask.clock() - started

    return task


@pytest.mark.parametrize("slowest", ["a", "b", "c"])
def test_who_shares_a_call_does_not_depend_on_how_fast_threads_are(calls: list[list[str]], slowest: str) -> None:
    times = {"a": 1, "b": 3, "c": 2, "d": 2}
    tasks = [asking(name, count, pause=0.1 * (name == slowest)) for name, count in times.items()]
    run_gathered(tasks, at_once=2)
    assert calls == [["a0", "b0"], ["b1", "c0"], ["b2", "c1"], ["d0"], ["d1"]]


def test_time_that_was_others_is_left_out(calls: list[list[str]]) -> None:
    seconds: dict[str, float] = {}
    run_gathered([asking("quick", 2, waited=seconds), asking("slow", 2, pause=3 * SECONDS, waited=seconds)], at_once=2)
    assert len(calls) == 2
    assert seconds["quick"] + SECONDS < seconds["slow"]  # which it waited for both times, in pauses of three calls


def test_an_error_ends_the_others_and_is_raised(calls: list[list[str]]) -> None:
    ended: list[str] = []

    def endless(name: str) -> Callable[[Ask], None]:
        def task(ask: Ask) -> None:
            try:
                while True:
                    asking(name, 1)(ask)
            except CancelledError:
                ended.append(name)
                raise

        return task

    def fails(ask: Ask) -> None:
        asking("f", 2)(ask)
        raise InputError("mask: damaged")

    with pytest.raises(InputError, match="mask: damaged"):
        run_gathered([endless("a"), fails, endless("c")], at_once=3)
    assert sorted(ended) == ["a", "c"]
    assert calls[0] == ["a0", "f0", "c0"]


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_an_error_of_the_network_ends_all(
    calls: list[list[str]], monkeypatch: pytest.MonkeyPatch, error: type[BaseException]
) -> None:
    def fail(_: object) -> None:
        raise error

    def breaks(ask: Ask) -> None:
        asking("b", 1)(ask)
        monkeypatch.setattr(gathering, "run_calls", fail)
        asking("b", 1)(ask)

    with pytest.raises(error):
        run_gathered([breaks, asking("x", 99)], at_once=2)
    assert len(calls) == 1


def test_none_at_once_is_refused() -> None:
    with pytest.raises(InputError, match="at_once: expected at least 1, got 0"):
        run_gathered([asking("a", 1)], at_once=0)


def test_a_task_that_asks_nothing_ends_where_it_checks() -> None:
    def idle(ask: Ask) -> None:
        while True:
            ask.check()
            time.sleep(0.01)

    def fails(_: Ask) -> None:
        raise InputError("mask: damaged")

    with pytest.raises(InputError, match="mask: damaged"):
        run_gathered([idle, fails], at_once=2)


def test_one_at_once_needs_no_thread(completer: AmodalCompleter) -> None:
    threads = []

    def task(ask: Ask) -> None:
        threads.append(threading.current_thread())
        read(completer, 2, ask, Tally(), 1)

    run_gathered([task, task], at_once=1)
    run_gathered([task], at_once=3)
    assert threads == [threading.main_thread()] * 3
