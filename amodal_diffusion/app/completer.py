"""Completion of the page's clips with the code of `amodal-diffusion complete` and networks that are loaded once."""

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
from amodal_diffusion.pipelines.methods import DEFAULT_MODEL, DIFFUSION, METHODS
from amodal_diffusion.types import InputError, Stage

if TYPE_CHECKING:
    from amodal_diffusion.pipelines.completer import CompletionConfig


@dataclass(frozen=True)
class PageTask:
    """A clip to complete.

    Attributes:
        clip: video or folder of images.
        masks: path of the modal masks, for `read_masks`.
        depth: folder of PNG files or ``.npy`` file, larger is nearer; None if no depth is given.
        out: result folder; it appears only when the results are complete.
        num_frames: number of frames of the clip.
        num_objects: number of objects in the masks, at least 1.
        seed: random seed; the same seed gives the same result.
        samples: number of samples of each amodal mask, at least 1; if above 1, the results show where they differ.
        method: of stage 1, one of :attr:`PageCompleter.methods`; the first of them when None.
    """

    clip: Path
    masks: Path
    depth: Path | None
    out: Path
    num_frames: int
    num_objects: int
    seed: int
    samples: int
    method: str | None = None


class PageCompleter:
    """Completes clips, one at a time.

    Args:
        model: the networks, their device and precision.
        preset: sampling preset; None uses the checkpoint's default.

    Attributes:
        methods: of stage 1: the one that `model` names, then the others whose weights are bundled, which are loaded
            when they are first asked for.

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
        served = self._networks.method
        others = (name for name, method in METHODS.items() if name != served and method.is_bundled)
        self.methods: tuple[str, ...] = (served, *others)
        self._others: dict[str, tuple[CompletionRequest, Networks]] = {}

    @property
    def description(self) -> str:
        """The model and its device, such as ``tiny on cpu``."""
        method = "" if self._networks.method == DIFFUSION else f"{self._networks.method}, "
        return f"{method}{self._request.model.model} on {self._networks.completer.device}"

    def _loaded(self, method: str | None) -> tuple[CompletionRequest, Networks]:
        """The request and the networks of a method; stage 2 is the same for all."""
        if method in (None, self._networks.method):
            return self._request, self._networks
        if method not in self.methods:
            raise InputError(f"method: expected one of {', '.join(self.methods)}, got {method}")
        if method not in self._others:
            served = self._request.model
            content = served.content_model or (served.model if self._networks.method == DIFFUSION else None)
            model = replace(served, model=DEFAULT_MODEL, content_model=content, method=method)
            request = replace(self._request, model=model)
            self._others[method] = request, Networks(request)
        return self._others[method]

    @property
    def samples(self) -> int:
        """Predictions of each amodal mask unless the visitor asks for another number: the checkpoint's."""
        config = self._networks.config(self._request).amodal_segmentation
        return 1 if config is None else config.samples

    def __call__(self, task: PageTask, on_step: Callable[[float], None]) -> None:
        """Complete a clip into the task's folder, byte for byte as `complete` does.

        Args:
            task: the clip, its masks and the result folder.
            on_step: called before each network pass with the share of passes done, from 0 to 1. An exception that it
                raises stops the work.

        Raises:
            InputError: if an input is wrong.
        """
        base, networks = self._loaded(task.method)
        request = replace(
            base,
            source=Source(clip=task.clip, masks=task.masks),
            output=Output(out=task.out, quiet=True),
            depth=DepthChoice(depth="auto" if task.depth is None else str(task.depth)),
            sampling=replace(base.sampling, seed=task.seed, samples=task.samples),
        )
        completer = networks.completer
        # On a CPU each sample of a window takes its own pass; on other devices the samples are rows of one pass.
        samples = task.samples if completer.device == "cpu" else 1
        _, cuts = open_shots(task.clip, request.source.cuts)
        lengths = [stop - start for start, stop in shots_of(task.num_frames, cuts)]
        config = networks.config(request)
        total = task.num_objects * samples * sum(count_passes(config, length) for length in lengths)
        done = 0

        def count(_: Stage) -> None:
            nonlocal done
            on_step(min(done / max(total, 1), 1.0))
            done += 1

        with completer.watched(count):
            complete_clip(request, networks=networks)


def count_passes(config: CompletionConfig, num_frames: int) -> int:
    """Number of network passes of both stages for one object and one sample of a clip.

    This is an upper bound: windows in which the object cannot be occluded take no pass.

    Args:
        config: sampling settings of the stages.
        num_frames: number of frames of the clip.
    """
    first, second = config.amodal_segmentation, config.content_completion
    total = 0
    if first is not None:
        total += first.network_passes * first.beyond.tta * count_windows(num_frames, first.num_frames)
    # If the network's output has no weight in the blend, it is needed only where propagation fails, which is rare.
    if second is not None and not (second.beyond.color_propagation and second.beyond.blend_weight == 0):
        total += second.network_passes * count_windows(num_frames, second.num_frames)
    return total


def count_windows(num_frames: int, size: int) -> int:
    """Number of windows that cover a clip; each overlaps the previous one by ``size // 4`` frames.

    Args:
        num_frames: number of frames of the clip, at least 1.
        size: number of frames of a window, at least 1.
    """
    fresh = size - size // 4
    return 1 + max(0, -(-(num_frames - size) // fresh))
