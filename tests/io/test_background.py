"""Reading ahead and writing behind: the order, the bounds, and errors at their place."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from amodal_diffusion.io.background import WriteBehind, read_ahead


def numbers(made: list[int], stop: int = 10) -> Iterator[int]:
    for number in range(stop):
        made.append(number)
        yield number
    raise OSError("the disk is gone")


def test_items_come_in_order_and_few_wait() -> None:
    made: list[int] = []
    found = read_ahead(numbers(made), ahead=2)
    assert [next(found), next(found)] == [0, 1]
    found.close()
    assert made in ([0, 1, 2], [0, 1, 2, 3])  # those that were passed on, and at most two


def test_an_error_comes_after_the_items_before_it() -> None:
    items = read_ahead(numbers([], stop=3))
    assert [next(items) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(OSError, match="the disk is gone"):
        next(items)


def test_closing_early_closes_what_is_read() -> None:
    closed = threading.Event()

    def items() -> Iterator[int]:
        try:
            while True:
                yield 1
        finally:
            closed.set()

    found = read_ahead(items())
    next(found)
    found.close()
    assert closed.is_set()


def test_jobs_run_in_order_and_few_wait() -> None:
    done: list[int] = []
    with WriteBehind(behind=2) as writer:
        for number in range(9):
            writer.add(done.append, number)
            assert len(done) >= number - 1
    assert done == list(range(9))


@pytest.mark.parametrize("error", [OSError("full"), KeyboardInterrupt()])
def test_the_error_of_a_job_reaches_the_caller(error: BaseException) -> None:
    done: list[int] = []
    hold = threading.Event()

    def fail() -> None:
        hold.wait()
        raise error

    with WriteBehind(behind=3) as writer:
        for job in (done.append, 0), (fail,), (done.append, 1):
            writer.add(*job)
        hold.set()
        with pytest.raises(type(error)):
            writer.wait()
        writer.wait()  # it is raised once
    assert done in ([0], [0, 1])  # what had begun when the error was seen is finished


def test_the_error_is_raised_at_the_end() -> None:
    writer = WriteBehind()
    writer.add(int, "x")
    with pytest.raises(ValueError, match="invalid literal"):
        writer.__exit__(None, None, None)


def test_an_error_of_the_caller_leaves_no_job_out() -> None:
    done: list[int] = []
    writer = WriteBehind(behind=4)
    for number in range(4):
        writer.add(done.append, number)
    writer.__exit__(ValueError, ValueError("mine"), None)
    assert done == [0, 1, 2, 3]
