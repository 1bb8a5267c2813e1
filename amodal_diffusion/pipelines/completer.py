"""AmodalCompleter: numpy frames in, whole objects out, for a clip or for a stream of any length."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Literal, Self

from amodal_diffusion.models.checkpoint import Preset, SamplingDefaults, Solver
from amodal_diffusion.models.weights import joined_fingerprint
from amodal_diffusion.pipelines.amodal_segmentation import AmodalSegmentationPipeline
from amodal_diffusion.pipelines.appearance_stream import stream_appearance
from amodal_diffusion.pipelines.clips import clip_stream, joined
from amodal_diffusion.pipelines.content_completion import ContentCompletionPipeline
from amodal_diffusion.pipelines.copies import Copies
from amodal_diffusion.pipelines.denoising import ConditionedVideoPipeline, Conditioning
from amodal_diffusion.pipelines.loading import load_stages
from amodal_diffusion.pipelines.mask_stream import stream_masks
from amodal_diffusion.pipelines.network_calls import Ask, AskAlone
from amodal_diffusion.pipelines.occlusion_intervals import Spans
from amodal_diffusion.pipelines.postprocessing import Guardian, Guards
from amodal_diffusion.pipelines.streams import (
    FrameInput,
    StreamSettings,
    given_masks,
    mark_free,
    same_size,
    samples_of,
)
from amodal_diffusion.pipelines.tally import Tally
from amodal_diffusion.pipelines.window_sampling import choose_sampling
from amodal_diffusion.types import STAGES, AmodalResult, BoolArray, FloatArray, InputError, Stage, VideoClip

__all__ = ["AmodalCompleter", "FrameInput"]


class AmodalCompleter:
    """Both stages behind one call.

    Windows of the model's length follow each other with an overlap of a quarter and are cross-faded; the initial
    noise of a frame depends on the seed and the frame alone, so that windows agree where they overlap.

    Attributes:
        seconds: time spent so far, by stage, by streams without a tally of their own.
        guarded: hidden pixels removed so far from the frames that came out of these, by guard.
        copied: pixels painted so far by these (``hidden``), and how many of them are copies from other frames
            (``copied``).
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
        self._tally = Tally()
        self.seconds, self.guarded, self.copied = self._tally.seconds, self._tally.guarded, self._tally.copied

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
        loaded = load_stages(
            model, content_model=content_model, stages=stages, conditioning=conditioning, device=device, dtype=dtype
        )
        return cls(loaded.segmentation, loaded.content, default_depth_model=loaded.depth_model)

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
                it is the default.
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
                :func:`~amodal_diffusion.pipelines.occlusion_intervals.find_spans` finds free of doubt.

        Returns:
            the whole object at the clip's size; ``amodal_rgb`` and ``rgba`` are None without stage 2.

        Raises:
            InputError: if shapes do not match, or amodal masks are missing where stage 1 is not loaded.
        """
        frames, found = clip_stream(clip, depth, amodal_mask, spans=spans)
        results = self.stream(
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
        return joined(list(results))

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
        ask: Ask | None = None,
        tally: Tally | None = None,
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
            ask: what runs the windows: one by one by default, or with those of other streams, see
                :func:`~amodal_diffusion.pipelines.gathering.run_gathered`.
            tally: counts time and pixels of this stream; the completer's own when None. Streams that are read at the
                same time need one each.

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
        ask, tally = ask or AskAlone(), tally or self._tally
        checked = same_size(frames)
        if spans is not None:
            checked = mark_free(checked, spans)
        guardian = None
        if self._segmentation is None:
            masked = given_masks(checked)
        else:
            settings = StreamSettings(sampling["amodal_segmentation"], seed, samples, spans, done, ask)
            if guards is None:
                guards = Guards.of(["none" if self._segmentation.conditioning == "released" else "all"])
            guardian = Guardian(guards)
            masked = stream_masks(self._segmentation, checked, settings, guardian)
            masked = tally.timed("amodal_segmentation", masked, clock=ask.clock)
        if self._content is None:
            results: Iterator[AmodalResult] = (
                AmodalResult(amodal_mask=entry.amodal[None], samples=samples_of(entry))
                for entry in islice(masked, done, None)
            )
        else:
            settings = StreamSettings(sampling["content_completion"], seed, spans=spans, done=done, ask=ask)
            if copies is None:
                copies = settings.sampling.copies and self._content.conditioning != "released"
            copier = Copies(settings.sampling.painted_share, tally.copied) if copies else None
            results = stream_appearance(self._content, masked, settings, copier)
            results = tally.timed("content_completion", results, clock=ask.clock)
        yield from results if guardian is None else tally.guarding(guardian, results, start=done)

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
            InputError: if there is no such preset or solver, the solver does not fit a checkpoint's scheduler, or the
                VAE does not divide height or width.
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
            pipeline.stage: choose_sampling(pipeline, chosen, preset=preset or "default")
            for pipeline in loaded
            if pipeline is not None and pipeline.stage is not None
        }

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
