"""Completes the page's clips with the code of `amodal-diffusion complete`, with networks that are loaded once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

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
from amodal_diffusion.completion.shots import open_shots
from amodal_diffusion.config import Preset
from amodal_diffusion.frames.cuts import shots_of
from amodal_diffusion.types import Stage

if TYPE_CHECKING:
    from amodal_diffusion.pipelines.completer import CompletionConfig


@dataclass(frozen=True)
class PageTask:
    """A clip to complete.

    Attributes:
        clip: a video or a folder of pictures.
        masks: visible part of each object, as `read_masks` takes them.
        depth: PNG folder or ``.npy`` file, nearer is larger; None where the clip has none.
        out: folder of the results, made whole or not at all.
        num_frames: length of the clip.
        num_objects: objects in the masks, at least 1.
        seed: the same seed gives the same result.
        samples: predictions of each object's amodal mask, at least 1; above 1 the results show where they differ.
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
        preset: how the networks are sampled; the checkpoint's default when None.

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

    @property
    def samples(self) -> int:
        """Predictions of each amodal mask unless the visitor asks for another number: the checkpoint's."""
        config = self._networks.config(self._request).amodal_segmentation
        return 1 if config is None else config.samples

    def __call__(self, task: PageTask, on_step: Callable[[float], None]) -> None:
        """Complete a clip into the task's folder, byte for byte as `complete` does.

        Args:
            task: the clip, its masks and the folder of the results.
            on_step: called before each network pass with the share of passes that are done, from 0 to 1. An exception
                that it raises ends the work.

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
        completer = self._networks.completer
        # On a CPU the samples of a window are passes of their own, elsewhere rows of one pass.
        samples = task.samples if completer.device == "cpu" else 1
        _, cuts = open_shots(task.clip, request.source.cuts)
        lengths = [stop - start for start, stop in shots_of(task.num_frames, cuts)]
        config = self._networks.config(request)
        total = task.num_objects * samples * sum(count_passes(config, length) for length in lengths)
        done = 0

        def count(_: Stage) -> None:
            nonlocal done
            on_step(min(done / total, 1.0))
            done += 1

        with completer.watched(count):
            complete_clip(request, networks=self._networks)


def count_passes(config: CompletionConfig, num_frames: int) -> int:
    """Network passes of both stages for one object and one sample of a shot.

    This is an upper bound: windows in which nothing can be occluded take no pass.

    Args:
        config: how the stages are sampled.
        num_frames: length of the shot.
    """
    first, second = config.amodal_segmentation, config.content_completion
    total = 0
    if first is not None:
        total += first.network_passes * first.beyond.tta * count_windows(num_frames, first.num_frames)
    # Where the network's painting has no weight, it is called only if colors cannot be propagated, which is rare.
    if second is not None and not (second.beyond.color_propagation and second.beyond.blend_weight == 0):
        total += second.network_passes * count_windows(num_frames, second.num_frames)
    return total


def count_windows(num_frames: int, size: int) -> int:
    """Windows of ``size`` frames that cover a shot, each with an overlap of ``size // 4`` frames with the one before.

    Args:
        num_frames: length of the shot, at least 1.
        size: length of a window, at least 1.
    """
    fresh = size - size // 4
    return 1 + max(0, -(-(num_frames - size) // fresh))
