"""Completes the page's clips with the code of `amodal-diffusion complete`, with networks that are loaded once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from amodal_diffusion.completion.clip import complete_clip
from amodal_diffusion.completion.networks import Networks
from amodal_diffusion.completion.request import (
    CompletionRequest,
    DepthChoice,
    ModelChoice,
    Output,
    SamplingChoice,
    Source,
)
from amodal_diffusion.config import Preset, SamplingConfig
from amodal_diffusion.types import Stage


@dataclass(frozen=True)
class PageTask:
    """A clip to complete.

    Attributes:
        clip: a video or a folder of pictures.
        masks: visible part of each object, as `read_masks` takes them.
        depth: of the clip, nearer is larger; None where there is none.
        out: folder of the results, made whole or not at all.
        num_frames: of the clip.
        num_objects: in the masks.
        seed: the same seed gives the same result.
        samples: predictions of each object's shape; above 1, the results say how far they differ.
    """

    clip: Path
    masks: Path
    depth: Path | None
    out: Path
    num_frames: int
    num_objects: int
    seed: int
    samples: int


class PageCompleter:
    """Completes clips, one at a time.

    Args:
        model: the networks, and where they run.
        preset: how they are sampled; the checkpoint's default when None.

    Raises:
        InputError: if they cannot be loaded.
    """

    def __init__(self, model: ModelChoice, preset: Preset | None = None) -> None:
        self._request = CompletionRequest(
            source=Source(clip=Path(), masks=Path()),
            output=Output(out=Path(), quiet=True),
            model=model,
            sampling=SamplingChoice(preset=preset),
        )
        self._networks = Networks(self._request)

    @property
    def description(self) -> str:
        """The model and its device, such as ``tiny on cpu``."""
        return f"{self._request.model.model} on {self._networks.completer.device}"

    def __call__(self, task: PageTask, on_step: Callable[[float], None]) -> None:
        """Complete a clip into the task's folder.

        Args:
            task: the clip, its masks and where the results go.
            on_step: called often with the share that is done, from 0 to 1: that of the denoising steps, which take
                nearly all of the time. An exception that it raises ends the work.

        Raises:
            InputError: if an input is wrong.
        """
        request = replace(
            self._request,
            source=Source(clip=task.clip, masks=task.masks),
            output=Output(out=task.out, quiet=True),
            depth=DepthChoice(depth="auto" if task.depth is None else str(task.depth)),
            sampling=replace(self._request.sampling, seed=task.seed, samples=task.samples),
        )
        config, done = self._networks.config(request), 0
        stages = [stage for stage in (config.amodal_segmentation, config.content_completion) if stage is not None]
        # On a CPU the samples of a window are calls of their own, elsewhere rows of one call.
        samples = task.samples if self._networks.completer.device == "cpu" else 1
        total = task.num_objects * sum(count_calls(stage, task.num_frames) for stage in stages)
        if config.amodal_segmentation is not None:
            total += task.num_objects * (samples - 1) * count_calls(config.amodal_segmentation, task.num_frames)

        def count(_: Stage) -> None:
            nonlocal done
            on_step(min(done / max(total, 1), 1.0))
            done += 1

        with self._networks.completer.watched(count):
            complete_clip(request, networks=self._networks)


def count_calls(config: SamplingConfig, num_frames: int) -> int:
    """Calls of a stage's network for one object and sample of a clip, at most.

    Args:
        config: of the stage.
        num_frames: of the clip.

    Returns:
        0 where color propagation leaves the network's painting without weight, and seldom calls it.
    """
    if config.beyond.color_propagation and config.beyond.blend_weight == 0:
        return 0
    return config.network_passes * config.beyond.tta * count_windows(num_frames, config.num_frames)


def count_windows(num_frames: int, size: int) -> int:
    """Windows that a stage cuts a clip into.

    Args:
        num_frames: of the clip.
        size: of a window.
    """
    fresh = size - size // 4
    return 1 + max(0, -(-(num_frames - size) // fresh))
