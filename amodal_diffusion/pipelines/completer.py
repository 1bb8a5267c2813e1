"""AmodalCompleter: numpy frames in, whole objects out, for a clip or for a stream of any length."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Literal, Self, TypeVar

import numpy as np
import torch

from amodal_diffusion.models.checkpoint import SamplingDefaults, Solver
from amodal_diffusion.models.devices import find_device
from amodal_diffusion.models.fingerprint import joined_fingerprint
from amodal_diffusion.models.hub import check_names_stages, find_model, load_stage
from amodal_diffusion.models.presets import Preset
from amodal_diffusion.pipelines.amodal_segmentation import AmodalSegmentationPipeline
from amodal_diffusion.pipelines.conditioned_video import ConditionedVideoPipeline, Conditioning
from amodal_diffusion.pipelines.content_completion import ContentCompletionPipeline
from amodal_diffusion.pipelines.copies import TALLY, Copies
from amodal_diffusion.pipelines.guards import GUARDS, Guardian, Guards
from amodal_diffusion.pipelines.spans import SpanFrame, Spans, find_spans, given_spans
from amodal_diffusion.pipelines.streams import (
    FrameInput,
    StreamSettings,
    choose_sampling,
    given_masks,
    mark_free,
    samples_of,
    stream_appearance,
    stream_masks,
)
from amodal_diffusion.types import (
    STAGES,
    AmodalResult,
    BoolArray,
    FloatArray,
    InputError,
    Stage,
    UInt8Array,
    VideoClip,
)
from amodal_diffusion.video.focus import follow
from amodal_diffusion.video.frames import depth_to_unit

__all__ = ["AmodalCompleter", "FrameInput"]

T = TypeVar("T")


class AmodalCompleter:
    """Both stages behind one call.

    Windows of the model's length follow each other with an overlap of a quarter and are cross-faded; the initial
    noise of a frame depends on the seed and the frame alone, so that windows agree where they overlap.

    Attributes:
        seconds: time spent so far, by stage.
        guarded: hidden pixels removed so far from the frames that came out, by guard.
        copied: pixels painted so far (``hidden``), and how many of them are copies from other frames (``copied``).
    """

    def __init__(
        self,
        segmentation: AmodalSegmentationPipeline | None,
        content: ContentCompletionPipeline | None,
        *,
        default_depth_model: str | None = None,
    ) -> None:
        """Take loaded pipelines.

        Args:
            segmentation: stage 1; None if amodal masks will be given.
            content: stage 2; None if only masks are wanted.
            default_depth_model: the depth network that stage 1 was trained on, if any.

        Raises:
            InputError: if both are None.
        """
        if segmentation is None and content is None:
            raise InputError("stages: expected at least one of amodal_segmentation and content_completion")
        self._segmentation, self._content = segmentation, content
        self.default_depth_model = default_depth_model
        self.seconds: dict[str, float] = dict.fromkeys(STAGES, 0.0)
        self.guarded: dict[str, int] = dict.fromkeys(GUARDS, 0)
        self.copied: dict[str, float] = dict.fromkeys(TALLY, 0.0)

    @classmethod
    def from_pretrained(
        cls,
        model: str | Path = "tiny",
        *,
        content_model: str | Path | None = None,
        stages: Sequence[Stage] = STAGES,
        conditioning: Conditioning = "corrected",
        device: str = "auto",
        dtype: str = "auto",
    ) -> Self:
        """Load a model.

        Args:
            model: a bundled name, a folder, or a hub id, with both stages or with the wanted one.
            content_model: where stage 2 is, if not in ``model``.
            stages: which to load.
            conditioning: ``"released"`` repeats the reference's inference, for the published checkpoints.
            device: ``"auto"`` is cuda if there is one, else mps, else cpu.
            dtype: ``"float32"``, ``"float16"``, ``"bfloat16"``; ``"auto"`` is float16 on cuda, else float32.

        Raises:
            InputError: if the model cannot be loaded or device or dtype is unknown.
        """
        where = find_device(device)
        precision = _dtype(dtype, where)
        if set(STAGES) <= set(stages) and content_model is None:
            check_names_stages(find_model(model))
        segmentation = content = depth_model = None
        if "amodal_segmentation" in stages:
            components = load_stage(find_model(model), stage="amodal_segmentation", dtype=precision)
            depth_model = components.settings.depth_model
            segmentation = AmodalSegmentationPipeline.from_components(components, conditioning=conditioning)
        if "content_completion" in stages:
            folder = find_model(model if content_model is None else content_model)
            components = load_stage(folder, stage="content_completion", dtype=precision)
            content = ContentCompletionPipeline.from_components(components, conditioning=conditioning)
        for pipeline in (segmentation, content):
            if pipeline is not None:
                pipeline.to(where)
                pipeline.set_progress_bar_config(disable=True)
        return cls(segmentation, content, default_depth_model=depth_model)

    def complete(
        self,
        clip: VideoClip,
        *,
        depth: FloatArray | None = None,
        amodal_mask: BoolArray | None = None,
        seed: int = 0,
        preset: Preset | None = None,
        num_inference_steps: int | None = None,
        guidance_scale: float | None = None,
        solver: Solver | None = None,
        height: int | None = None,
        width: int | None = None,
        guards: Guards | None = None,
        copies: bool | None = None,
        samples: int = 1,
        spans: Literal["auto", "all"] = "all",
    ) -> AmodalResult:
        """Complete one object of a clip.

        Args:
            clip: frames and modal masks.
            depth: float ``[F, H, W]``, any scale, nearer is larger; None for none.
            amodal_mask: bool ``[F, H, W]``, to skip stage 1.
            seed: the same seed gives the same result.
            preset: how to sample: ``"fast"``, ``"default"``, or ``"paper"``, 25 Euler steps under guidance; when None
                it is the default, and the paper's with ``conditioning="released"``.
            num_inference_steps: the preset's when None, as the following.
            guidance_scale: weight of guidance.
            solver: ``"euler"``, ``"heun"`` or ``"dpmpp"``.
            height: pixels the model works at; the clip is letterboxed into them.
            width: pixels the model works at.
            guards: against invented shape; by default all, and none with ``conditioning="released"``.
            copies: whether what other frames show of the hidden part is copied as far as that can be relied on; by
                default as the checkpoint says, and not with ``conditioning="released"``.
            samples: answers of stage 1, at least 1; with several the result is their consensus and has them all.
            spans: ``"all"`` has the networks see every frame; ``"auto"`` leaves those alone that
                :func:`~amodal_diffusion.pipelines.spans.find_spans` finds free of doubt.

        Returns:
            the whole object at the clip's size; ``amodal_rgb`` and ``rgba`` are None without stage 2.

        Raises:
            InputError: if shapes do not match, or amodal masks are missing where stage 1 is not loaded.
        """
        shape = clip.modal_mask.shape
        for name, array in (("depth", depth), ("amodal_mask", amodal_mask)):
            if array is not None and array.shape != shape:
                raise InputError(f"{name}: expected {list(shape)} to match the clip, got {list(array.shape)}")
        if amodal_mask is not None and amodal_mask.dtype != np.bool_:
            raise InputError(f"amodal_mask: expected bool, got {amodal_mask.dtype}")
        scaled = None if depth is None else depth_to_unit(depth)[:, 0].numpy()  # [F, H, W]
        focuses = follow(clip.modal_mask if amodal_mask is None else clip.modal_mask | amodal_mask)
        frames = (
            FrameInput(
                rgb=clip.rgb[index],
                modal=clip.modal_mask[index],
                depth=None if scaled is None else scaled[index],
                amodal=None if amodal_mask is None else amodal_mask[index],
                focus=focuses[index],
            )
            for index in range(clip.num_frames)
        )
        found = None
        if spans == "auto":
            if amodal_mask is not None:
                found = given_spans(zip(clip.modal_mask, amodal_mask, strict=True))
            else:
                maps = [None] * clip.num_frames if scaled is None else scaled
                found = find_spans(
                    SpanFrame(modal, values) for modal, values in zip(clip.modal_mask, maps, strict=True)
                )
        results = list(
            self.stream(
                frames,
                spans=found,
                seed=seed,
                preset=preset,
                num_inference_steps=num_inference_steps,
                guidance_scale=guidance_scale,
                solver=solver,
                height=height,
                width=width,
                guards=guards,
                copies=copies,
                samples=samples,
            )
        )
        answers = [result.samples for result in results if result.samples is not None]
        return AmodalResult(
            amodal_mask=np.concatenate([result.amodal_mask for result in results]),
            amodal_rgb=_concatenate([result.amodal_rgb for result in results]),
            rgba=_concatenate([result.rgba for result in results]),
            samples=np.concatenate(answers, axis=1) if answers else None,
        )

    def stream(
        self,
        frames: Iterable[FrameInput],
        *,
        seed: int = 0,
        preset: Preset | None = None,
        num_inference_steps: int | None = None,
        guidance_scale: float | None = None,
        solver: Solver | None = None,
        height: int | None = None,
        width: int | None = None,
        guards: Guards | None = None,
        copies: bool | None = None,
        samples: int = 1,
        spans: Spans | None = None,
        done: int = 0,
    ) -> Iterator[AmodalResult]:
        """Complete a stream of frames of one object; memory is that of a few windows, whatever its length.

        Args:
            frames: in order, all of one size.
            seed: as for :meth:`complete`, like the following.
            preset: how to sample.
            num_inference_steps: the preset's when None.
            guidance_scale: weight of guidance.
            solver: what follows the network from noise to a clip.
            height: pixels the model works at.
            width: pixels the model works at.
            guards: against invented shape.
            copies: from other frames.
            samples: answers of stage 1.
            spans: of the whole stream, where the object can be hidden; other frames are left alone. All when None.
            done: first frames whose results an earlier run has given; each comes with the whole mask that was found
                (``amodal``). What follows is the same to the bit, and windows of these frames alone are not sampled.

        Yields:
            runs of finished frames, in order, that together are the stream but for the first ``done``.

        Raises:
            InputError: if sizes differ, amodal masks are missing where stage 1 is not loaded, or the spans are of
                another clip.
        """
        sampling = self.sampling(
            preset=preset,
            num_inference_steps=num_inference_steps,
            guidance_scale=guidance_scale,
            solver=solver,
            height=height,
            width=width,
        )
        if samples < 1:
            raise InputError(f"samples: expected at least 1, got {samples}")
        checked = _same_size(frames)
        if spans is not None:
            checked = mark_free(checked, spans)
        guardian = None
        if self._segmentation is None:
            masked = given_masks(checked)
        else:
            settings = StreamSettings(sampling["amodal_segmentation"], seed, samples, spans, done)
            if guards is None:
                guards = Guards.of(["none" if self._segmentation.conditioning == "released" else "all"])
            guardian = Guardian(guards)
            masked = self._timed("amodal_segmentation", stream_masks(self._segmentation, checked, settings, guardian))
        if self._content is None:
            results: Iterator[AmodalResult] = (
                AmodalResult(amodal_mask=entry.amodal[None], samples=samples_of(entry))
                for entry in islice(masked, done, None)
            )
        else:
            settings = StreamSettings(sampling["content_completion"], seed, spans=spans, done=done)
            if copies is None:
                copies = settings.sampling.copies and self._content.conditioning != "released"
            copier = Copies(settings.sampling.painted_share, self.copied) if copies else None
            results = self._timed("content_completion", stream_appearance(self._content, masked, settings, copier))
        for number, result in enumerate(results, start=done):
            if guardian is not None:
                for guard, count in guardian.take_removed(number).items():
                    self.guarded[guard] += count
            yield result

    @contextmanager
    def watched(self, on_step: Callable[[Stage], None]) -> Iterator[None]:
        """Have a function called before each step of denoising, as long as the context lasts.

        Args:
            on_step: called with the stage; an exception that it raises ends the work.
        """
        hooks = [
            pipeline.unet.register_forward_pre_hook(lambda *_, stage=pipeline.stage: on_step(stage))
            for pipeline in (self._segmentation, self._content)
            if pipeline is not None
        ]
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()

    def fingerprints(self) -> dict[Stage, str]:
        """Which networks each loaded stage has: SHA-256 over those of each of them, 64 hex digits."""
        loaded = (self._segmentation, self._content)
        return {
            pipeline.stage: joined_fingerprint([pipeline.unet, pipeline.vae, pipeline.image_encoder])
            for pipeline in loaded
            if pipeline is not None and pipeline.stage is not None
        }

    def sampling(
        self,
        *,
        preset: Preset | None = None,
        num_inference_steps: int | None = None,
        guidance_scale: float | None = None,
        solver: Solver | None = None,
        height: int | None = None,
        width: int | None = None,
    ) -> dict[Stage, SamplingDefaults]:
        """How each loaded stage samples: a preset with the caller's choices in its place.

        Args:
            preset: as for :meth:`complete`, like the following.
            num_inference_steps: denoising steps.
            guidance_scale: weight of guidance.
            solver: what follows the network from noise to a clip.
            height: pixels the model works at.
            width: pixels the model works at.

        Raises:
            InputError: if there is no such preset or solver, or the VAE does not divide height or width.
        """
        choices = {
            "num_inference_steps": num_inference_steps,
            "guidance_scale": guidance_scale,
            "solver": solver,
            "height": height,
            "width": width,
        }
        chosen = {name: value for name, value in choices.items() if value is not None}
        loaded = (self._segmentation, self._content)
        return {
            pipeline.stage: choose_sampling(pipeline, chosen, preset=preset or self.default_preset)
            for pipeline in loaded
            if pipeline is not None and pipeline.stage is not None
        }

    @property
    def default_preset(self) -> Preset:
        """What applies where no preset is asked for."""
        return "paper" if self._any.conditioning == "released" else "default"

    @property
    def device(self) -> str:
        """Where the networks run, such as ``cpu`` or ``cuda:0``."""
        return str(self._any.device)

    @property
    def dtype(self) -> str:
        """Precision of the networks, such as ``float32``."""
        return str(self._any.unet.dtype).removeprefix("torch.")

    @property
    def _any(self) -> ConditionedVideoPipeline:
        pipeline = self._segmentation or self._content
        if pipeline is None:
            raise RuntimeError("no stage is loaded")  # refused at the start
        return pipeline

    def _timed(self, stage: Stage, stream: Iterator[T]) -> Iterator[T]:
        """Pass a stage's stream on, adding the time it takes, less that of the stage it pulls from."""
        while True:
            started, before = time.perf_counter(), sum(self.seconds.values())
            item = next(stream, None)
            inner = sum(self.seconds.values()) - before
            self.seconds[stage] += time.perf_counter() - started - inner
            if item is None:
                return
            yield item


def _same_size(frames: Iterable[FrameInput]) -> Iterator[FrameInput]:
    """Pass frames through; raise an InputError at the first that differs in size from the first one."""
    size: tuple[int, ...] | None = None
    for index, frame in enumerate(frames):
        size = frame.rgb.shape[:2] if size is None else size
        parts = {"rgb": frame.rgb, "modal": frame.modal, "depth": frame.depth, "amodal": frame.amodal}
        for name, array in parts.items():
            if array is not None and array.shape[:2] != size:
                found = list(array.shape[:2])
                raise InputError(f"frame {index}: {name} is {found}, expected {list(size)} as in frame 0")
        yield frame


def _concatenate(parts: list[UInt8Array | None]) -> UInt8Array | None:
    present = [part for part in parts if part is not None]
    return np.concatenate(present) if present else None


def _dtype(name: str, device: torch.device) -> torch.dtype:
    if name == "auto":
        return torch.float16 if device.type == "cuda" else torch.float32
    known = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
    if name not in known:
        raise InputError(f"dtype: expected auto, {', '.join(known)}, got {name}")
    return known[name]
