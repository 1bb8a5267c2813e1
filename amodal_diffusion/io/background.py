"""Reading ahead and writing behind: work of the disk and the codecs in threads, in order and with bounded queues."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Any, Self, TypeVar

T = TypeVar("T")

_END: Any = object()


def read_ahead(items: Iterable[T], *, ahead: int = 2) -> Generator[T]:
    """Pass items on, while a thread makes the next ones.

    An error comes where the item would have come. When the result is closed early, the thread finishes its item, and
    ``items`` is closed.

    Args:
        items: iterated in the thread alone.
        ahead: largest number of items that wait, at least 1.
    """
    source = iter(items)
    waiting: deque[Future[T]] = deque()
    with ThreadPoolExecutor(1) as reader:
        try:
            waiting.extend(reader.submit(next, source, _END) for _ in range(ahead))
            while (item := waiting.popleft().result()) is not _END:
                waiting.append(reader.submit(next, source, _END))
                yield item
        finally:
            for future in waiting:
                future.cancel()
            if close := getattr(source, "close", None):
                reader.submit(close)


class WriteBehind:
    """Run jobs in the order of :meth:`add` in one thread, at most a few behind the caller.

    As a context it waits for all jobs, also after an error in the context, and raises the error of the first job that
    failed.
    """

    def __init__(self, *, behind: int = 2) -> None:
        """Start.

        Args:
            behind: largest number of jobs that wait, at least 1.
        """
        self._behind = behind
        self._jobs: deque[Future[None]] = deque()
        self._thread = ThreadPoolExecutor(1)

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Wait for the jobs."""
        try:
            if kind is None:
                self.wait()
        finally:
            self._thread.shutdown()

    def add(self, job: Callable[..., None], *arguments: object) -> Future[None]:
        """Run a job later; waits while too many others do.

        Args:
            job: what to run; the arrays that it gets must not change any more.
            arguments: of the job.

        Raises:
            BaseException: the error of an earlier job; jobs that have not begun are left out.
        """
        while len(self._jobs) >= self._behind:
            self._settle()
        future = self._thread.submit(job, *arguments)
        self._jobs.append(future)
        return future

    def wait(self) -> None:
        """Wait for all jobs.

        Raises:
            BaseException: the error of the first job that failed; jobs that have not begun are left out.
        """
        while self._jobs:
            self._settle()

    def _settle(self) -> None:
        """Wait for the oldest job."""
        try:
            self._jobs.popleft().result()
        except BaseException:
            for job in self._jobs:
                job.cancel()
            self._jobs.clear()
            raise
