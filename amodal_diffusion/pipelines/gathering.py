"""Several objects at once: each in a thread of its own, the windows that they ask about gathered into shared calls."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from threading import Condition

from torch import Tensor

from amodal_diffusion.pipelines.network_calls import Answered, Ask, AskAlone, WindowCall, run_calls
from amodal_diffusion.types import InputError


def run_gathered(tasks: Sequence[Callable[[Ask], None]], *, at_once: int) -> None:
    """Run tasks, each of which asks networks about the windows of one object.

    Up to ``at_once`` tasks run at the same time, each in a thread, begun in their order. The networks run in the
    calling thread alone. It waits until every task that has begun waits for an answer or has ended, and then runs all
    that they ask, as rows of as few calls as shapes and settings allow, in the order of the tasks. Which windows share
    a call thus follows from the tasks, not from how fast each thread is.

    A stream stays a loop that asks and gets an answer: generators that hand their questions up through both stages and
    the blending of windows would say the same in every function on the way.

    The first error of a task or a network ends the others where they next ask or check, and is raised here once all
    threads have ended. With one task, or one at once, there are no threads: tasks run here, one after the other.

    Args:
        tasks: what to do; each is called with what it asks through, and shares nothing else that changes.
        at_once: tasks that run at the same time, at least 1.

    Raises:
        InputError: if ``at_once`` is not.
    """
    if at_once < 1:
        raise InputError(f"at_once: expected at least 1, got {at_once}")
    if at_once == 1 or len(tasks) < 2:
        for task in tasks:
            task(AskAlone())
        return
    gatherer = _Gatherer()
    with ThreadPoolExecutor(at_once, thread_name_prefix="object") as pool:
        try:
            gatherer.serve(
                [pool.submit(task, _AskGathered(gatherer, number)) for number, task in enumerate(tasks)], at_once
            )
        finally:
            gatherer.close()
            pool.shutdown(wait=False, cancel_futures=True)  # leaving the context waits


@dataclass(frozen=True)
class _Question:
    """A window that a task waits for."""

    call: WindowCall
    answer: Future[Answered] = field(default_factory=Future)


class _AskGathered:
    """What one task asks through."""

    def __init__(self, gatherer: _Gatherer, number: int) -> None:
        self._gatherer, self._number = gatherer, number
        self._waited = 0.0

    def __call__(self, call: WindowCall) -> Tensor:
        started = time.perf_counter()
        question = _Question(call)
        self._gatherer.put(self._number, question)
        answer = question.answer.result()
        self._waited += time.perf_counter() - started - answer.seconds
        return answer.video

    def clock(self) -> float:
        return time.perf_counter() - self._waited

    def check(self) -> None:
        self._gatherer.check()


class _Gatherer:
    """Where questions of tasks meet the thread that answers them."""

    def __init__(self) -> None:
        self._changed = Condition()
        self._last: dict[int, _Question] = {}  # by task; stays until answered, so that no interruption can lose one
        self._closed = False

    def put(self, number: int, question: _Question) -> None:
        """Leave a question of a task."""
        with self._changed:
            self.check()
            self._last[number] = question
            self._changed.notify_all()

    def check(self) -> None:
        """Raise a CancelledError if the work is to end."""
        if self._closed:
            raise CancelledError("another object ended the work")

    def serve(self, running: Sequence[Future[None]], at_once: int) -> None:
        """Answer until all tasks have ended; raise the error of the first that failed."""
        for future in running:
            future.add_done_callback(self._wake)
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._is_settled(running, at_once))
                self._last = self._open()
                questions = [question for _, question in sorted(self._last.items())]
            for future in running:
                if future.done():
                    future.result()
            if not questions:
                return
            _answer(questions)

    def close(self) -> None:
        """End the tasks that wait for an answer, and those that are going to."""
        with self._changed:
            self._closed = True
            for question in self._last.values():
                question.answer.cancel()  # does nothing to one that is answered

    def _wake(self, _: Future[None]) -> None:
        with self._changed:
            self._changed.notify_all()

    def _open(self) -> dict[int, _Question]:
        """Questions that are not answered, by task."""
        return {number: question for number, question in self._last.items() if not question.answer.done()}

    def _is_settled(self, running: Sequence[Future[None]], at_once: int) -> bool:
        """Whether no task that goes on could ask more before it gets an answer, or one has failed."""
        ended = [future for future in running if future.done()]
        if any(future.exception() is not None for future in ended):
            return True
        return len(self._open()) == min(at_once, len(running) - len(ended))


def _answer(questions: Sequence[_Question]) -> None:
    for question, answer in zip(questions, run_calls([question.call for question in questions]), strict=True):
        question.answer.set_result(answer)
