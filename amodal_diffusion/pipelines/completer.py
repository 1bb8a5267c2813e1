"""AmodalCompleter: numpy frames in, whole objects out, for a clip or for a stream of any length."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

import numpy as np
import torch
from torch import Tensor

from amodal_diffusion.models.checkpoint import SamplingDefaults
from amodal_diffusion.models.hub import find_model, load_stage
from amodal_diffusion.models.latents import spatial_factor
from amodal_diffusion.pipelines.amodal_segmentation import AmodalSegmentationPipeline, mask_score
from amodal_diffusion.pipelines.conditioned_video import ConditionedVideoPipeline, Conditioning
from amodal_diffusion.pipelines.content_completion import ContentCompletionPipeline
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
from amodal_diffusion.video.frames import Letterbox, depth_to_unit, mask_to_unit, to_uint8, to_unit
from amodal_diffusion.video.masks import compose_rgba, cut_out_on_white
from amodal_diffusion.video.windows import Window, blend_windows


@dataclass(frozen=True)
class FrameInput:
    """One frame of a stream.

    Attributes:
        rgb: uint8 ``[H, W, 3]``.
        modal: visible part of the object, bool ``[H, W]``; may be empty.
        depth: float32 ``[H, W]`` in [-1, 1], nearer is larger, already scaled over the whole clip; None for none.
        amodal: the whole object if it is known already, bool ``[H, W]``; stage 1 then leaves this frame alone.
    """

    rgb: UInt8Array
    modal: BoolArray
    depth: FloatArray | None = None
    amodal: BoolArray | None = None


@dataclass(frozen=True)
class _MaskedFrame:
    """A frame whose amodal mask is final."""

    frame: FrameInput
    amodal: BoolArray


class AmodalCompleter:
    """Both stages behind one call.

    Windows of the model's length follow each other with an overlap of a quarter and are cross-faded; the initial
    noise of a frame depends on the seed and the frame alone, so that windows agree where they overlap.

    Attributes:
        seconds: time spent so far, by stage.
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
        where, precision = _device(device), _dtype(dtype, _device(device))
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
        num_inference_steps: int | None = None,
        guidance_scale: float | None = None,
        height: int | None = None,
        width: int | None = None,
    ) -> AmodalResult:
        """Complete one object of a clip.

        Args:
            clip: frames and modal masks.
            depth: float ``[F, H, W]``, any scale, nearer is larger; None for none.
            amodal_mask: bool ``[F, H, W]``, to skip stage 1.
            seed: the same seed gives the same result.
            num_inference_steps: the checkpoint's own when None, as the following.
            guidance_scale: weight of guidance.
            height: pixels the model works at; the clip is letterboxed into them.
            width: pixels the model works at.

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
        frames = (
            FrameInput(
                rgb=clip.rgb[index],
                modal=clip.modal_mask[index],
                depth=None if scaled is None else scaled[index],
                amodal=None if amodal_mask is None else amodal_mask[index],
            )
            for index in range(clip.num_frames)
        )
        results = list(
            self.stream(
                frames,
                seed=seed,
                num_inference_steps=num_inference_steps,
                guidance_scale=guidance_scale,
                height=height,
                width=width,
            )
        )
        return AmodalResult(
            amodal_mask=np.concatenate([result.amodal_mask for result in results]),
            amodal_rgb=_concatenate([result.amodal_rgb for result in results]),
            rgba=_concatenate([result.rgba for result in results]),
        )

    def stream(
        self,
        frames: Iterable[FrameInput],
        *,
        seed: int = 0,
        num_inference_steps: int | None = None,
        guidance_scale: float | None = None,
        height: int | None = None,
        width: int | None = None,
    ) -> Iterator[AmodalResult]:
        """Complete a stream of frames of one object; memory is that of a few windows, whatever its length.

        Args:
            frames: in order, all of one size.
            seed: as for :meth:`complete`, like the following.
            num_inference_steps: the checkpoint's own when None.
            guidance_scale: weight of guidance.
            height: pixels the model works at.
            width: pixels the model works at.

        Yields:
            runs of finished frames, in order, that together are the stream.

        Raises:
            InputError: if sizes differ, or amodal masks are missing where stage 1 is not loaded.
        """
        settings = {
            "num_inference_steps": num_inference_steps,
            "guidance_scale": guidance_scale,
            "height": height,
            "width": width,
        }
        chosen = {name: value for name, value in settings.items() if value is not None}
        masked = self._amodal_masks(_same_size(frames), seed, chosen)
        if self._content is None:
            for entry in masked:
                yield AmodalResult(amodal_mask=entry.amodal[None])
        else:
            yield from self._appearance(self._content, masked, seed, chosen)

    def _amodal_masks(
        self, frames: Iterable[FrameInput], seed: int, chosen: dict[str, float]
    ) -> Iterator[_MaskedFrame]:
        """Stage 1: frames come out one by one as their masks become final."""
        pipeline = self._segmentation
        if pipeline is None:
            for frame in frames:
                yield _MaskedFrame(frame, _given_mask(frame) | frame.modal)
            return
        sampling = _sampling(pipeline, chosen)

        def predict(window: Window[FrameInput]) -> Tensor:
            size = (sampling.height, sampling.width)
            if all(frame.amodal is not None for frame in window.items):
                return torch.zeros(len(window.items), *size)
            box = _letterbox(window.items[0], sampling)
            modal = [box.apply(mask_to_unit(frame.modal[None]), -1.0) for frame in window.items]
            depth = [torch.from_numpy(frame.depth)[None, None] for frame in window.items if frame.depth is not None]
            guide = None
            if len(depth) == len(modal):
                guide = torch.cat([box.apply(plane, "edge") for plane in depth])[None]  # [1, F, 1, H, W]
            return mask_score(self._sample(pipeline, torch.cat(modal)[None], guide, sampling, seed, window.start))

        for frame, score in blend_windows(frames, predict, size=sampling.num_frames, overlap=sampling.num_frames // 4):
            if frame.amodal is not None:
                yield _MaskedFrame(frame, frame.amodal | frame.modal)
                continue
            full = _letterbox(frame, sampling).undo(score[None, None].cpu())[0, 0]
            yield _MaskedFrame(frame, (full > sampling.mask_threshold).numpy() | frame.modal)

    def _appearance(
        self,
        pipeline: ContentCompletionPipeline,
        masked: Iterable[_MaskedFrame],
        seed: int,
        chosen: dict[str, float],
    ) -> Iterator[AmodalResult]:
        """Stage 2, and the layers made of its pixels and the input's."""
        sampling = _sampling(pipeline, chosen)

        def predict(window: Window[_MaskedFrame]) -> Tensor:
            box = _letterbox(window.items[0].frame, sampling)
            modal, guide = [], []
            for entry in window.items:
                visible = cut_out_on_white(entry.frame.rgb[None], entry.frame.modal[None])
                modal.append(box.apply(to_unit(visible), 1.0))
                guide.append(box.apply(mask_to_unit(entry.amodal[None]), -1.0).sign())  # binarised, as in training
            videos = torch.cat(modal)[None], torch.cat(guide)[None]
            return self._sample(pipeline, *videos, sampling, seed, window.start)

        for entry, painted in blend_windows(
            masked, predict, size=sampling.num_frames, overlap=sampling.num_frames // 4
        ):
            full = to_uint8(_letterbox(entry.frame, sampling).undo(painted[None].cpu()))  # [1, H, W, 3]
            rgb, modal, amodal = entry.frame.rgb[None], entry.frame.modal[None], entry.amodal[None]
            whole = np.where(modal[..., None], rgb, full)
            yield AmodalResult(
                amodal_mask=amodal,
                amodal_rgb=cut_out_on_white(whole, amodal),
                rgba=compose_rgba(rgb, modal, whole, amodal),
            )

    def _sample(
        self,
        pipeline: ConditionedVideoPipeline,
        modal: Tensor,
        guide: Tensor | None,
        sampling: SamplingDefaults,
        seed: int,
        start: int,
    ) -> Tensor:
        """Run one window; float32 ``[F, 3, H, W]`` in [-1, 1]."""
        started = time.perf_counter()
        stage: Stage = pipeline.stage or "amodal_segmentation"
        factor = spatial_factor(pipeline.vae)
        cells = (4, sampling.height // factor, sampling.width // factor)
        noise = [
            torch.randn(cells, generator=_generator(seed, stage, start + index)) for index in range(modal.shape[1])
        ]
        output = pipeline(
            modal,
            guide,
            num_inference_steps=sampling.num_inference_steps,
            guidance_scale=sampling.guidance_scale,
            noise_aug_strength=sampling.noise_aug_strength,
            generator=_generator(seed, stage, start),
            latents=torch.stack(noise)[None],
            decode_chunk_size=sampling.decode_chunk_size,
        )
        self.seconds[stage] += time.perf_counter() - started
        return output.video[0]


def _same_size(frames: Iterable[FrameInput]) -> Iterator[FrameInput]:
    """Pass frames through; raise an InputError at the first that differs in size from the first one."""
    size: tuple[int, ...] | None = None
    for index, frame in enumerate(frames):
        size = frame.rgb.shape[:2] if size is None else size
        for name, array in (
            ("rgb", frame.rgb),
            ("modal", frame.modal),
            ("depth", frame.depth),
            ("amodal", frame.amodal),
        ):
            if array is not None and array.shape[:2] != size:
                raise InputError(
                    f"frame {index}: {name} is {list(array.shape[:2])}, expected {list(size)} as in frame 0"
                )
        yield frame


def _given_mask(frame: FrameInput) -> BoolArray:
    if frame.amodal is None:
        raise InputError("amodal: stage 1 is not loaded, so every frame needs its amodal mask; load it or give masks")
    return frame.amodal


def _sampling(pipeline: ConditionedVideoPipeline, chosen: dict[str, float]) -> SamplingDefaults:
    sampling = replace(pipeline.sampling, **chosen)  # type: ignore[arg-type]
    factor = spatial_factor(pipeline.vae)
    for name in ("height", "width"):
        value = getattr(sampling, name)
        if value < factor or value % factor:
            raise InputError(f"{name}: expected a multiple of {factor}, got {value}")
    return sampling


def _letterbox(frame: FrameInput, sampling: SamplingDefaults) -> Letterbox:
    height, width = frame.rgb.shape[:2]
    return Letterbox((height, width), (sampling.height, sampling.width))


def _generator(seed: int, stage: Stage, frame: int) -> torch.Generator:
    """Randomness of one frame of one stage, the same whatever window the frame is in."""
    state = np.random.SeedSequence([seed, STAGES.index(stage), frame]).generate_state(1)
    return torch.Generator().manual_seed(int(state[0]))


def _concatenate(parts: list[UInt8Array | None]) -> UInt8Array | None:
    present = [part for part in parts if part is not None]
    return np.concatenate(present) if present else None


def _device(name: str) -> torch.device:
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise InputError(f"device {name}: cannot be used here ({str(error).splitlines()[0]})") from error
    return device


def _dtype(name: str, device: torch.device) -> torch.dtype:
    if name == "auto":
        return torch.float16 if device.type == "cuda" else torch.float32
    known = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
    if name not in known:
        raise InputError(f"dtype: expected auto, {', '.join(known)}, got {name}")
    return known[name]
