"""The processes of a launch that share a benchmark's tracks or other work, and how they end together."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import TypeVar

import torch
from accelerate import Accelerator
from accelerate.utils import InitProcessGroupKwargs, gather_object

from amodal_diffusion.types import InputError

T = TypeVar("T")

# A process that has done its share waits for the slowest; if one dies, the launcher ends the others.
_PATIENCE = timedelta(days=7)


class Processes:
    """The processes that `accelerate launch` has started, or this one alone.

    Attributes:
        count: how many there are.
        index: which of them this is, from 0.
        device: torch's name of the device that this one is to compute on.
    """

    def __init__(self) -> None:
        """Join them."""
        # A launch of several processes on the CPU does not tell them so, and each would take itself to be alone.
        self._accelerator = Accelerator(
            cpu=not torch.accelerator.is_available(), kwargs_handlers=[InitProcessGroupKwargs(timeout=_PATIENCE)]
        )
        self.count: int = self._accelerator.num_processes
        self.index: int = self._accelerator.process_index
        self.device = str(self._accelerator.device)

    @property
    def is_main(self) -> bool:
        """Whether this is the one that gathers, writes and prints."""
        return self.index == 0

    def share(self, work: Sequence[T]) -> Sequence[T]:
        """What this process does of some work."""
        return work[self.index :: self.count]

    def together(self, work: Callable[[], T]) -> T:
        """Do work that can fail in every process; where it fails in one, it fails in all.

        Args:
            work: may read and write files; does not wait for other processes.

        Returns:
            what ``work`` returned in this process.

        Raises:
            InputError: in every process, the first failure by number of process.
        """
        result, failure = None, ""
        try:
            result = work()
        except (InputError, OSError) as error:
            failure = str(error)
        failures = [text for text in gather_object([failure]) if text]
        if failures:
            raise InputError(failures[0])
        return result  # type: ignore[return-value]  # only a failed work has no result

    def main_alone(self, work: Callable[[], T]) -> T:
        """Do work in the main process alone and give every process its result, which can be pickled.

        Raises:
            InputError: in every process, if it failed.
        """
        result = self.together(lambda: work() if self.is_main else None)
        found: T = gather_object([result])[0]
        return found

    def gather(self, values: Sequence[T]) -> list[T]:
        """Values of all processes, which can be pickled, in the order of the processes."""
        found: list[T] = gather_object(list(values))
        return found

    def wait(self) -> None:
        """Wait until all are here."""
        self._accelerator.wait_for_everyone()

    def end(self) -> None:
        """Wait for the others and leave them."""
        self.wait()
        self._accelerator.end_training()
