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
        masks: modal masks of each object, as `read_masks` takes them.
        depth: depth files, nearer is larger, as `open_depth` takes them; None where there are none.
        out: result folder, written completely or not at all.
        num_frames: frames in the clip.
        num_objects: objects in the masks.
        seed: of the noise; the same seed gives the same result.
        samples: amodal masks sampled for each object; above 1, the results hold a video of where they differ.
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
        preset: sampling settings; the checkpoint's default when None.

    Raises:
        InputError: if the networks cannot be loaded.
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
            task: the clip, its masks and the result folder.
            on_step: called before each denoising step with the share of these steps that are done, 0 to 1; they take
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
    """Upper bound of a stage's UNet calls for one object and one sample.

    Args:
        config: sampling settings of the stage.
        num_frames: frames in the clip.

    Returns:
        0 if color propagation gives the network's painting no weight, so that it is seldom called.
    """
    if config.beyond.color_propagation and config.beyond.blend_weight == 0:
        return 0
    return config.network_passes * config.beyond.tta * count_windows(num_frames, config.num_frames)


def count_windows(num_frames: int, size: int) -> int:
    """Number of overlapping windows that a stage cuts a clip into.

    Args:
        num_frames: frames in the clip.
        size: frames in a window.
    """
    fresh = size - size // 4
    return 1 + max(0, -(-(num_frames - size) // fresh))
