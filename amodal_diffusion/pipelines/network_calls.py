"""Windows on their way through the networks: what is asked about one, and how several share one call."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from amodal_diffusion.models.checkpoint import SamplingDefaults
from amodal_diffusion.pipelines.denoising import ConditionedVideoPipeline


@dataclass(frozen=True)
class WindowCall:
    """What a pipeline is asked about one window, in K answers.

    Attributes:
        pipeline: of the stage.
        modal: float ``[K, F, 1 or 3, H, W]`` in [-1, 1].
        guide: as ``modal``, or None.
        sampling: of the stage.
        generators: one an answer.
        latents: initial noise, float ``[K, F, 4, h, w]``.
        decoded: run of frames that the video is wanted of.
    """

    pipeline: ConditionedVideoPipeline
    modal: Tensor
    guide: Tensor | None
    sampling: SamplingDefaults
    generators: Sequence[torch.Generator]
    latents: Tensor
    decoded: slice


class Answered(NamedTuple):
    """What a window got.

    Attributes:
        video: float32 ``[K, F, 3, H, W]`` in [-1, 1] on the CPU, 0 in frames that were not wanted.
        seconds: its share, by rows, of those that its call took.
    """

    video: Tensor
    seconds: float


class Ask(Protocol):
    """How a stream has the windows of one object run."""

    def __call__(self, call: WindowCall) -> Tensor:
        """Run a window and give its video, see `Answered`."""
        ...

    def clock(self) -> float:
        """Seconds that the object has taken since some moment, those in which it waited for others left out."""
        ...

    def check(self) -> None:
        """Raise what ends the work on the object, if it is to end."""
        ...


class AskAlone:
    """One window at a time."""

    def __call__(self, call: WindowCall) -> Tensor:
        """See `Ask`."""
        return run_calls([call])[0].video

    def clock(self) -> float:
        """See `Ask`."""
        return time.perf_counter()

    def check(self) -> None:
        """Nothing but an exception of its own ends it."""


def run_calls(calls: Sequence[WindowCall]) -> list[Answered]:
    """Run windows, those of one pipeline with equal shapes and settings as rows of one call.

    On a CPU each window gets to the bit what it gets alone, see :class:`ConditionedVideoPipeline`; elsewhere the last
    bits may depend on the other rows.

    Args:
        calls: at least one.

    Returns:
        what each got.
    """
    answers: dict[int, Answered] = {}
    left = list(range(len(calls)))
    while left:
        group = [number for number in left if _fit(calls[left[0]], calls[number])]
        started = time.perf_counter()
        videos = _run([calls[number] for number in group])
        seconds = (time.perf_counter() - started) / len(videos)
        rows = iter(videos)
        for number in group:
            video = torch.stack([next(rows) for _ in calls[number].modal])
            answers[number] = Answered(video, seconds * len(video))
        left = [number for number in left if number not in group]
    return [answers[number] for number in range(len(calls))]


def _fit(one: WindowCall, other: WindowCall) -> bool:
    """Whether two windows can be rows of one call."""
    shapes = [(call.modal.shape[1:], None if call.guide is None else call.guide.shape[1:]) for call in (one, other)]
    return one.pipeline is other.pipeline and one.sampling == other.sampling and shapes[0] == shapes[1]


def _run(calls: Sequence[WindowCall]) -> Tensor:
    """Run windows as one call; all of their rows in order."""
    guides = [call.guide for call in calls if call.guide is not None]
    return (
        calls[0]
        .pipeline(
            torch.cat([call.modal for call in calls]),
            torch.cat(guides) if guides else None,
            sampling=calls[0].sampling,
            generator=[generator for call in calls for generator in call.generators],
            latents=torch.cat([call.latents for call in calls]),
            decoded=[call.decoded for call in calls for _ in call.generators],
        )
        .video.cpu()
    )
