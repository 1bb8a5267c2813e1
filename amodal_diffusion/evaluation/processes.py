"""The processes of a launch: how they share work, fail together and end together."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import TypeVar

import torch
from accelerate import Accelerator
from accelerate.utils import InitProcessGroupKwargs, gather_object

from amodal_diffusion.basics import InputError

T = TypeVar("T")

FAILED = 2
"""Exit status of a command that failed."""
# A process that has done its share waits for the slowest; if one dies, the launcher ends the others.
_PATIENCE = timedelta(days=7)


class Processes:
    """The processes that `accelerate launch` has started, or this process alone.

    Attributes:
        count: number of processes.
        index: number of this process, from 0.
        device: torch's name of this process's device.
    """

    def __init__(self) -> None:
        """Join the other processes of the launch."""
        # Without `cpu`, each process of a launch on the CPU would take itself to be alone.
        self._accelerator = Accelerator(
            cpu=not torch.accelerator.is_available(), kwargs_handlers=[InitProcessGroupKwargs(timeout=_PATIENCE)]
        )
        self.count: int = self._accelerator.num_processes
        self.index: int = self._accelerator.process_index
        self.device = str(self._accelerator.device)

    @property
    def is_main(self) -> bool:
        """Whether this process gathers, writes and prints."""
        return self.index == 0

    def share(self, work: Sequence[T]) -> Sequence[T]:
        """The part of some work that this process does."""
        return work[self.index :: self.count]

    def together(self, work: Callable[[], T]) -> T:
        """Do work in every process; if it fails in one, it fails in all.

        Args:
            work: may read and write files; does not wait for other processes.

        Returns:
            what ``work`` returned in this process.

        Raises:
            InputError: in every process, with the message of the first process that failed.
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
        """Do work in the main process alone and give its result, which must be picklable, to every process.

        Raises:
            InputError: in every process, if the work failed.
        """
        result = self.together(lambda: work() if self.is_main else None)
        found: T = gather_object([result])[0]
        return found

    def gather(self, values: Sequence[T]) -> list[T]:
        """Values of all processes, which must be picklable, in the order of the processes."""
        found: list[T] = gather_object(list(values))
        return found

    def run(self, work: Callable[[], None]) -> int:
        """Do a command's work in every process and end; a launch of several prints an error once.

        Args:
            work: the command.

        Returns:
            exit status.

        Raises:
            InputError: if this process is alone and the work fails.
        """
        try:
            work()
        except InputError as error:
            if self.count == 1:
                raise
            if self.is_main:
                sys.stderr.write(f"error: {' '.join(str(error).split())}\n")
            self.end()
            return FAILED
        self.end()
        return 0

    def wait(self) -> None:
        """Wait for all processes."""
        self._accelerator.wait_for_everyone()

    def end(self) -> None:
        """Wait for the other processes and leave the launch."""
        self.wait()
        self._accelerator.end_training()
