"""What streams of frames have come to so far: time, pixels that guards removed, pixels that were copied."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TypeVar

from amodal_diffusion.pipelines.copies import TALLY
from amodal_diffusion.pipelines.postprocessing import GUARDS, Guardian
from amodal_diffusion.types import STAGES, AmodalResult, Stage

T = TypeVar("T")


@dataclass(frozen=True)
class Tally:
    """Counts that go up while streams are read.

    Attributes:
        seconds: time spent so far, by stage.
        guarded: hidden pixels removed so far from the frames that came out, by guard.
        copied: pixels painted so far (``hidden``), and how many of them are copies from other frames (``copied``).
    """

    seconds: dict[str, float] = field(default_factory=lambda: dict.fromkeys(STAGES, 0.0))
    guarded: dict[str, int] = field(default_factory=lambda: dict.fromkeys(GUARDS, 0))
    copied: dict[str, float] = field(default_factory=lambda: dict.fromkeys(TALLY, 0.0))

    def timed(self, stage: Stage, stream: Iterator[T], *, clock: Callable[[], float]) -> Iterator[T]:
        """Pass a stage's stream on, adding the time it takes, less that of the stage it pulls from.

        Args:
            stage: which.
            stream: what it gives.
            clock: tells the time in seconds.
        """
        while True:
            started, before = clock(), sum(self.seconds.values())
            item = next(stream, None)
            inner = sum(self.seconds.values()) - before
            self.seconds[stage] += clock() - started - inner
            if item is None:
                return
            yield item

    def guarding(self, guardian: Guardian, results: Iterator[AmodalResult], *, start: int) -> Iterator[AmodalResult]:
        """Pass results of one frame each on, adding what was removed from them.

        Args:
            guardian: of the stream.
            results: in order.
            start: number in the stream of the first.
        """
        for number, result in enumerate(results, start=start):
            for guard, count in guardian.take_removed(number).items():
                self.guarded[guard] += count
            yield result
