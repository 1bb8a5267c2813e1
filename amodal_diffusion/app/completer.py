"""Completion of the page's clips with the code of `amodal-diffusion complete` and networks that are loaded once."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from amodal_diffusion.app.progress import Work
from amodal_diffusion.basics import InputError, Stage
from amodal_diffusion.completion.clip import complete_clip
from amodal_diffusion.completion.networks import Networks
from amodal_diffusion.completion.objects import OnProgress
from amodal_diffusion.completion.option_values import Format, read_formats
from amodal_diffusion.completion.request import (
    CompletionRequest,
    DepthChoice,
    ModelChoice,
    Output,
    SamplingChoice,
    Source,
)
from amodal_diffusion.completion.shots import open_shots
from amodal_diffusion.config import MaskFilter, Preset
from amodal_diffusion.frames.cuts import shots_of
from amodal_diffusion.pipelines.methods import DEFAULT_MODEL, DIFFUSION, METHODS

if TYPE_CHECKING:
    from amodal_diffusion.pipelines.completer import CompletionConfig

KEY_GREEN = "#00ff00"
"""Color behind the object in MP4 unless a visitor chooses another: for a chroma key."""


@dataclass(frozen=True)
class Choices:
    """Settings of a completion that a visitor chooses.

    Attributes:
        seed: random seed; the same seed gives the same result.
        samples: number of samples of each amodal mask, at least 1; if above 1, the results show where they differ. None
            for the checkpoint's number.
        method: of stage 1, one of :attr:`PageCompleter.methods`; the first of them when None.
        preset: sampling preset; the page's when None.
        mask_filters: filters of stage 1's masks; the checkpoint's when None.
        margin: outpainting margin on each side, as a share of the frame, 0 to 1.
        soft_edge: width in pixels of the band in which the alpha of a layer falls to 0.
        shrink_mask: pixels by which the visible mask is shrunk for stage 2; the checkpoint's when None.
        formats: formats of the files besides PNG.
        color: behind the object in MP4 and GIF: a CSS color name or ``#rrggbb``.
    """

    seed: int = 0
    samples: int | None = None
    method: str | None = None
    preset: Preset | None = None
    mask_filters: tuple[MaskFilter, ...] | None = None
    margin: float = 0.0
    soft_edge: int = 0
    shrink_mask: int | None = None
    formats: tuple[Format, ...] = ()
    color: str = KEY_GREEN


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
        pixels: number of pixels of a frame.
        choices: settings that the visitor chose.
    """

    clip: Path
    masks: Path
    depth: Path | None
    out: Path
    num_frames: int
    num_objects: int
    pixels: int
    choices: Choices


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

    def work(self, task: PageTask) -> Work:
        """Amount of work of a task.

        Args:
            task: the clip, its masks and the result folder.

        Raises:
            InputError: if an input or a setting is wrong.
        """
        request, networks = self._request_of(task)
        # On a CPU each sample of a window takes its own pass; on other devices the samples are rows of one pass.
        config = networks.config(request)
        first = config.amodal_segmentation
        samples = first.samples if first is not None and networks.completer.device == "cpu" else 1
        _, cuts = open_shots(task.clip, request.source.cuts)
        lengths = [stop - start for start, stop in shots_of(task.num_frames, cuts)]
        passes = task.num_objects * samples * sum(count_passes(config, length) for length in lengths)
        pixels = round(task.pixels * (1 + 2 * task.choices.margin) ** 2)
        return Work(task.num_frames, task.num_objects, pixels, passes, request.output.formats)

    def __call__(self, task: PageTask, on_progress: OnProgress) -> None:
        """Complete a clip into the task's folder, byte for byte as `complete` does.

        Args:
            task: the clip, its masks and the result folder.
            on_progress: as for `complete_clip`, and told of each network ``pass`` before it begins. An exception that
                it raises stops the work.

        Raises:
            InputError: if an input or a setting is wrong.
        """
        request, networks = self._request_of(task)
        begun = 0

        def count(_: Stage) -> None:
            nonlocal begun
            on_progress("pass", begun, 0)
            begun += 1

        with networks.completer.watched(count):
            complete_clip(request, networks=networks, on_progress=on_progress)

    def _request_of(self, task: PageTask) -> tuple[CompletionRequest, Networks]:
        """The options of `complete` that a task stands for, and the networks of its method."""
        chosen = task.choices
        base, networks = self._loaded(chosen.method)
        sampling = replace(
            base.sampling,
            seed=chosen.seed,
            samples=chosen.samples,
            preset=chosen.preset or base.sampling.preset,
            mask_filters=chosen.mask_filters,
            shrink_mask=chosen.shrink_mask,
        )
        request = replace(
            base,
            source=Source(clip=task.clip, masks=task.masks),
            output=Output(
                out=task.out,
                formats=read_formats(("png", *chosen.formats)),
                margin=chosen.margin,
                soft_edge=chosen.soft_edge,
                over_color=chosen.color,
                quiet=True,
            ),
            depth=DepthChoice(depth="auto" if task.depth is None else str(task.depth)),
            sampling=sampling,
        )
        return request, networks


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
    if second is not None:
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
