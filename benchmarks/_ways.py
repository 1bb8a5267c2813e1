"""Ways to run a stage on a clip, with the same weights: the reference's, and ours under a preset; with a watch."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Literal
from unittest.mock import patch

import torch
from _machine import wait_for
from diffusers import AutoencoderKLTemporalDecoder
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from amodal_diffusion import AmodalCompleter, AmodalResult, VideoClip
from amodal_diffusion.basics import Stage
from amodal_diffusion.config import Preset, SamplingConfig
from amodal_diffusion.evaluation.benchmarks.base import MaskTarget
from amodal_diffusion.models.acceleration import Acceleration, accelerate_networks
from amodal_diffusion.models.checkpoint import FEW_STEPS, CheckpointSettings
from amodal_diffusion.models.hub import StageComponents, load_stage
from amodal_diffusion.models.latents import Autoencoder
from amodal_diffusion.pipelines import denoising, memory_relief
from amodal_diffusion.pipelines.amodal_segmentation import AmodalSegmentationPipeline
from amodal_diffusion.pipelines.content_completion import ContentCompletionPipeline
from amodal_diffusion.synthetic import make_scene
from amodal_diffusion.training.networks import build_image_encoder, build_scheduler, build_unet
from amodal_diffusion.training.settings import ImageEncoderSettings, UNetSettings

WayName = Literal["reference", "paper", "fast", "default"]
WAYS: tuple[WayName, ...] = ("reference", "fast", "default")
SPLIT, HEIGHT, WIDTH = "validation", 64, 128
Attention = Literal["auto", "flash", "efficient", "cudnn", "math"]
_KERNELS = {
    "flash": SDPBackend.FLASH_ATTENTION,
    "efficient": SDPBackend.EFFICIENT_ATTENTION,
    "cudnn": SDPBackend.CUDNN_ATTENTION,
    "math": SDPBackend.MATH,
}


@dataclass(frozen=True)
class Shape:
    """Networks with random weights.

    Attributes:
        unet: its shape.
        vae: widths of its levels.
        image_encoder: its shape.
        sampling: sizes and window.
    """

    unet: UNetSettings
    vae: tuple[int, ...]
    image_encoder: ImageEncoderSettings
    sampling: SamplingConfig


SHAPES = {
    "full": Shape(
        UNetSettings(), (128, 256, 512, 512), ImageEncoderSettings(224, 14, 1280, 32, 16), SamplingConfig()
    ),
    "smallest": Shape(
        UNetSettings((32, 64), (1,), 1, 1, (1, 2), 16, 8), (32, 32), ImageEncoderSettings(32, 16, 16, 1, 2),
        SamplingConfig(num_frames=4, height=16, width=32),
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Tuning:
    """What ours may do that the reference's way does not, beside its preset.

    Attributes:
        dtype: of UNet and image encoder in both ways, and of our VAE; the reference's VAE is float32.
        attention: kernel of attention.
        one_pass: decode a window in one pass.
    """

    dtype: torch.dtype = torch.float32
    attention: Attention = "auto"
    one_pass: bool = False


PARTS = ("conditions", "denoise", "decode", "stage")


@dataclass
class Watch:
    """Seconds of the parts of a run, and of all of it; a part that is left out took none."""

    seconds: dict[str, float] = field(default_factory=lambda: dict.fromkeys(PARTS, 0.0))

    def timed(self, name: str, work: Callable[..., Any], device: torch.device) -> Callable[..., Any]:
        """The same function, with its time added up."""

        def run(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - whatever the function takes and gives
            wait_for(device)
            started = time.perf_counter()
            result = work(*args, **kwargs)
            wait_for(device)
            self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - started
            return result

        return run


class Ways:
    """The networks of one stage, and the ways to run them."""

    def __init__(self, stage: Stage, *, size: str, model: str, device: torch.device, tuning: Tuning) -> None:
        """Load or make the networks.

        Args:
            stage: which.
            size: ``tiny`` for the weights of `model`, else one of `SHAPES`.
            model: a bundled name, a folder, or a hub id.
            device: where they run.
            tuning: of ours.
        """
        self.stage, self.device, self.tuning = stage, device, tuning
        parts = load_stage(model, stage=stage) if size == "tiny" else _random(SHAPES[size], stage, device)
        for network in (parts.unet, parts.image_encoder):
            _move(network, device, tuning.dtype)
        self.parts = parts
        self.unet = parts.unet
        self.window = parts.settings.sampling.num_frames

    @cached_property
    def _reference(self) -> AmodalCompleter:
        vae = _move(copy.deepcopy(self.parts.vae), self.device, torch.float32)
        return _completer(replace(self.parts, vae=vae), self.stage)

    @cached_property
    def _ours(self) -> AmodalCompleter:
        parts = self.parts
        if self.tuning.one_pass:
            sampling = replace(parts.settings.sampling, decode_chunk_size=parts.settings.sampling.num_frames)
            parts = replace(parts, settings=replace(parts.settings, sampling=sampling))
        return _completer(replace(parts, vae=self._vae), self.stage)

    @cached_property
    def _vae(self) -> Autoencoder:
        return _move(copy.deepcopy(self.parts.vae), self.device, self.tuning.dtype)

    def accelerate(self, acceleration: Acceleration) -> None:
        """Apply options for speed to our VAE and to the UNet of all ways; operations are to be counted before."""
        acceleration.check(self.device, "none")
        accelerate_networks(self.unet, self._vae, acceleration, self.device)

    def count(self, way: WayName, track: MaskTarget) -> dict[str, int]:
        """Operations of a run, and those of the UNet in it."""
        with FlopCounterMode(display=False) as counter:
            self.run(way, track, Watch())
        unet = counter.get_flop_counts().get(type(self.unet).__name__, {})
        return {"stage": int(counter.get_total_flops()), "denoise": int(sum(unet.values()))}

    def run(self, way: WayName, track: MaskTarget, watch: Watch) -> AmodalResult:
        """Run the stage on a clip.

        Args:
            way: how.
            track: the clip with its depth, for stage 2 with its whole masks.
            watch: gets the seconds of `conditions`, `decode`, `denoise` and `stage`.
        """
        preset: Preset = "paper" if way == "reference" else way
        completer = self._reference if way == "reference" else self._ours
        amodal = track.amodal_mask if self.stage == "content_completion" else None
        with self._instrumented(watch):
            complete = watch.timed("stage", completer, self.device)
            one_by_one = {"encode_chunk_size": 1} if way == "reference" else {}
            config = completer.config(preset=preset, **one_by_one)
            result: AmodalResult = complete(track.clip, config, depth=track.depth, amodal_mask=amodal)
        return result

    @contextmanager
    def _instrumented(self, watch: Watch) -> Iterator[None]:
        """Watch the parts of the pipeline."""
        parts = {"conditions": (denoising, "build_conditions"), "decode": (memory_relief, "decode_latents")}
        kernel = nullcontext() if self.tuning.attention == "auto" else sdpa_kernel(_KERNELS[self.tuning.attention])
        with ExitStack() as stack:
            stack.enter_context(kernel)
            for name, (module, function) in parts.items():
                timed = watch.timed(name, getattr(module, function), self.device)
                stack.enter_context(patch.object(module, function, timed))
            pipeline = denoising.ConditionedVideoPipeline
            timed = watch.timed("denoise", pipeline._denoise, self.device)
            stack.enter_context(patch.object(pipeline, "_denoise", timed))
            yield


def _move(network: Any, device: torch.device, dtype: torch.dtype) -> Any:  # noqa: ANN401 - of whichever library
    """Bring a network to a device, and to another dtype only if it is not there: asking alone makes diffusers warn."""
    return network.to(device) if network.dtype == dtype else network.to(device, dtype)


def _completer(parts: StageComponents, stage: Stage) -> AmodalCompleter:
    if stage == "amodal_segmentation":
        first = AmodalSegmentationPipeline.from_components(parts)
        first.set_progress_bar_config(disable=True)
        return AmodalCompleter(first, None)
    second = ContentCompletionPipeline.from_components(parts)
    second.set_progress_bar_config(disable=True)
    return AmodalCompleter(None, second)


def scene_track(seed: int, frames: int, *, depth: bool) -> MaskTarget:
    """A generated clip of the validation split, with what a stage may be given of it."""
    scene = make_scene(seed, split=SPLIT, frames=frames, height=HEIGHT, width=WIDTH)
    assert scene.rgb is not None
    clip, amodal = VideoClip(scene.rgb, scene.target.modal, scene.fps), scene.target.amodal
    return MaskTarget(identity=scene.name, clip=clip, amodal_mask=amodal, depth=scene.depth if depth else None)


def _random(shape: Shape, stage: Stage, device: torch.device) -> StageComponents:
    """Networks with random weights, made on the device, and settings as of a checkpoint that says nothing of them."""
    torch.manual_seed(0)
    with device:
        vae = AutoencoderKLTemporalDecoder(
            block_out_channels=shape.vae, down_block_types=("DownEncoderBlock2D",) * len(shape.vae), layers_per_block=2
        )
        unet = build_unet(shape.unet, seed=0)
        image_encoder = build_image_encoder(shape.image_encoder, tokens=shape.unet.cross_attention_dim)
    return StageComponents(
        unet=unet.eval().requires_grad_(requires_grad=False),
        vae=vae.eval().requires_grad_(requires_grad=False),
        image_encoder=image_encoder,
        scheduler=build_scheduler(),  # its numbers stay on the CPU
        settings=CheckpointSettings(stage, shape.sampling, presets=FEW_STEPS),
    )
