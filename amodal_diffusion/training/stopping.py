"""A cluster's request to end (SIGTERM), noted for the next step instead of ending the process at once."""

from __future__ import annotations

import signal
import threading
from types import FrameType
from typing import Any, Self

import torch
from accelerate import Accelerator

TERMINATED_STATUS = 128 + signal.SIGTERM
"""Exit status, 143, of a run that was asked to end, saved a checkpoint and did."""


class Termination:
    """Within this context SIGTERM ends nothing; it is noted.

    Attributes:
        requested: whether this process got SIGTERM.
    """

    def __init__(self) -> None:
        """Nothing requested yet."""
        self.requested = False
        self._earlier: Any = None

    def __enter__(self) -> Self:
        """Note SIGTERM from now on; outside of the main thread, where Python allows no handlers, nothing changes."""
        if threading.current_thread() is threading.main_thread():
            self._earlier = signal.signal(signal.SIGTERM, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        """Handle SIGTERM as before."""
        if self._earlier is not None:
            signal.signal(signal.SIGTERM, self._earlier)

    def agreed(self, accelerator: Accelerator) -> bool:
        """Whether any process was asked to end; all call this together."""
        asked = torch.tensor(float(self.requested), device=accelerator.device)
        return bool(accelerator.reduce(asked, reduction="sum") > 0)

    def _note(self, _: int, __: FrameType | None) -> None:
        self.requested = True


def ignore_termination(_: int) -> None:
    """Leave SIGTERM to the training process, in a process that loads clips for it and ends with it.

    A scheduler may send it to all processes; a loading process that died of it would take the checkpoint with it.
    """
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
