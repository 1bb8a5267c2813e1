"""What this machine can do at best, and what a process has taken of it: the floors beside the figures."""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

GIB = 2**30
_SIDES = {"cuda": 8192, "cpu": 2048}  # of the matrices; smaller ones do not fill a GPU
_COPIED = 2**28  # bytes


@dataclass(frozen=True)
class Machine:
    """Rates of one device, measured.

    Attributes:
        operations: a second, in products of square matrices.
        bytes: a second, read and written, in copies.
    """

    operations: float
    bytes: float

    def floor(self, operations: float, traffic: float) -> float:
        """Least seconds that so many operations and so many bytes can take."""
        return max(operations / self.operations, traffic / self.bytes)


def measure_machine(device: torch.device, dtype: torch.dtype) -> Machine:
    """Measure the rates that a floor is made of, best of five."""
    side = _SIDES.get(device.type, 2048)
    matrix = torch.randn(side, side, device=device, dtype=dtype)
    source = torch.zeros(_COPIED, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    return Machine(
        operations=2 * side**3 / _best(lambda: matrix @ matrix, device),
        bytes=2 * _COPIED / _best(lambda: target.copy_(source), device),
    )


def peak_memory(device: torch.device) -> int:
    """Most bytes of the device that this process has had at once; on the CPU of the whole process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def wait_for(device: torch.device) -> None:
    """Wait until a device has done what it was given."""
    if device.type != "cpu":
        torch.accelerator.synchronize(device)


def _best(work: Callable[[], object], device: torch.device) -> float:
    seconds = []
    for _ in range(5):
        started = time.perf_counter()
        work()
        wait_for(device)
        seconds.append(time.perf_counter() - started)
    return min(seconds)
