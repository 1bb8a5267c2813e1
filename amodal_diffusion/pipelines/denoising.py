"""The one denoising loop of both stages, (modal, guide) -> amodal: the 12 channels are put together here."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar, Self

import numpy as np
import torch
from diffusers import DiffusionPipeline, UNetSpatioTemporalConditionModel
from diffusers.schedulers.scheduling_utils import SchedulerMixin
from diffusers.utils import BaseOutput
from diffusers.utils.torch_utils import randn_tensor
from einops import rearrange
from torch import Tensor
from transformers import CLIPVisionModelWithProjection

from amodal_diffusion.basics import InputError, Stage
from amodal_diffusion.config import SamplingConfig
from amodal_diffusion.models.acceleration import tf32_beside
from amodal_diffusion.models.checkpoint import CheckpointSettings
from amodal_diffusion.models.conditioning import Conditions, Generators, build_conditions, unconditional
from amodal_diffusion.models.hub import StageComponents, find_model, load_stage, stage_folder, stage_settings
from amodal_diffusion.models.latents import Autoencoder, spatial_factor
from amodal_diffusion.models.offloading import execution_device
from amodal_diffusion.models.schedulers import make_scheduler, set_noise_levels
from amodal_diffusion.models.unet import one_token_per_frame
from amodal_diffusion.pipelines.memory_relief import MemoryRelief

LATENT_CHANNELS = 4
ALL_FRAMES = slice(None)
_STAGE_KEYS: dict[Stage | None, int] = {None: 0, "amodal_segmentation": 0, "content_completion": 1}


@dataclass
class ConditionedVideoOutput(BaseOutput):
    """Result of the pipeline.

    Attributes:
        video: float32 ``[B, F, 3, H, W]`` in [-1, 1]; 0 in frames that were not to be decoded.
        latents: final latents, float32 ``[B, F, 4, h, w]``, still multiplied by the VAE's scaling factor.
    """

    video: Tensor
    latents: Tensor


class ConditionedVideoPipeline(DiffusionPipeline):
    """Sample the amodal video from a modal video and a guide (docs/method.md, sections 1 to 3).

    ``conditioning="corrected"`` gives every row of a batch the tokens of all its frames, as training does.
    ``"released"`` repeats the reference's inference to the bit, for the published checkpoints and numbers: one
    token a frame, laid out row by row as (zero, token 0, zero, token 1, ...) under guidance, and fps minus one.

    Attributes:
        settings: what the checkpoint says of itself: stage, sampling, presets, depth network.
        relief: what is computed at once after memory has run out.
    """

    model_cpu_offload_seq = "image_encoder->unet->vae"
    stage: ClassVar[Stage | None] = None

    def __init__(
        self,
        vae: Autoencoder,
        image_encoder: CLIPVisionModelWithProjection,
        unet: UNetSpatioTemporalConditionModel,
        scheduler: SchedulerMixin,
        *,
        settings: CheckpointSettings | None = None,
    ) -> None:
        """Take the networks over.

        Args:
            vae: the autoencoder of frames.
            image_encoder: makes the tokens.
            unet: 12 input channels.
            scheduler: Euler or EDM, v-prediction, sigma_data 1.
            settings: how the checkpoint is sampled; as the paper does when None.
        """
        super().__init__()
        self.register_modules(vae=vae, image_encoder=image_encoder, unet=unet, scheduler=scheduler)
        self.settings = settings or CheckpointSettings(self.stage or "amodal_segmentation")
        self.relief = MemoryRelief()

    @classmethod
    def from_components(cls, components: StageComponents) -> Self:
        """Build the pipeline of loaded networks."""
        return cls(
            components.vae,
            components.image_encoder,
            components.unet,
            components.scheduler,
            settings=components.settings,
        )

    @classmethod
    def from_pretrained(cls, name: str | Path, *, dtype: torch.dtype = torch.float32) -> Self:
        """Load a checkpoint in this package's layout or in the released one.

        Args:
            name: a bundled name, a folder, or a hub id.
            dtype: dtype of UNet and image encoder.

        Raises:
            InputError: if the checkpoint is incomplete or does not fit.
        """
        model = find_model(name, stage=cls.stage)
        stage: Stage = cls.stage or "amodal_segmentation"
        if cls.stage is None and stage_folder(model, stage) is model:
            stage = stage_settings(model, stage).stage
        return cls.from_components(load_stage(model, stage=stage, dtype=dtype))

    @torch.no_grad()
    def __call__(
        self,
        modal: Tensor,
        guide: Tensor | None,
        *,
        sampling: SamplingConfig | None = None,
        num_inference_steps: int | None = None,
        guidance_scale: float | None = None,
        noise_aug_strength: float | None = None,
        generator: Generators | None = None,
        latents: Tensor | None = None,
        decode_chunk_size: int | None = None,
        decoded: slice | Sequence[slice] = ALL_FRAMES,
        guide_rows: Sequence[int] | None = None,
    ) -> ConditionedVideoOutput:
        """Sample a batch of clips.

        Random numbers are drawn in this order: noise of the modal frames, noise of the guide frames, initial
        latents. On a CUDA device with networks of half precision, what stays float32 is multiplied in TF32: torch's
        global setting is changed for the time of encoding and decoding, and put back.

        Args:
            modal: float ``[B, F, 1 or 3, H, W]`` in [-1, 1]; H and W multiples of the VAE's factor.
            guide: as ``modal``, or None for guide latents of zero.
            sampling: how to sample; as the checkpoint says when None. Size, window, geometry, threshold and what goes
                beyond the paper belong to streams of frames: here the tensors are taken as they are.
            num_inference_steps: denoising steps, instead of those of ``sampling``, as the following.
            guidance_scale: weight of guidance, constant over frames; 1 or less is without.
            noise_aug_strength: standard deviation of the noise added to the condition pixels, at least 0.
            generator: one for the batch, or one a clip, which makes a clip's result independent of its batch.
            latents: initial noise of unit variance, float ``[B, F, 4, h, w]``, instead of drawing it.
            decode_chunk_size: frames of a clip that the VAE decodes together.
            decoded: run of frames, at least one, that the video is wanted of, or one for each clip; decoding is half
                the time of one step.
            guide_rows: for each clip, the first clip whose guide and noise are the same; each guide is encoded once.
                It takes a generator for each clip, and ``latents``. Each clip has its own guide when None.

        Returns:
            video and final latents.

        Raises:
            InputError: if a shape or a number is out of range.
        """
        sampling = sampling or self.settings.sampling
        chosen = {
            "num_inference_steps": num_inference_steps,
            "guidance_scale": guidance_scale,
            "noise_aug_strength": noise_aug_strength,
            "decode_chunk_size": decode_chunk_size,
        }
        sampling = sampling.changed({name: value for name, value in chosen.items() if value is not None})

        # 1. Check what came in
        self._check_inputs(modal, guide, latents)
        device = execution_device(self.unet)
        batch, frames = modal.shape[:2]
        runs = _frames_to_decode(decoded, batch=batch, frames=frames)
        modal = modal.to(device, torch.float32)
        guide = guide if guide is None else guide.to(device, torch.float32)

        # 2. Noise levels
        scheduler = make_scheduler(
            self.scheduler, scheduler=sampling.scheduler, sigma_min=sampling.sigma_min, sigma_max=sampling.sigma_max
        )
        set_noise_levels(scheduler, sampling.num_inference_steps, device=device)

        # 3. Conditions, and the same with their unconditional rows above them for where there is guidance
        with tf32_beside(self.unet, device):
            conditions = build_conditions(
                modal,
                guide,
                vae=self.vae,
                image_encoder=self.image_encoder,
                noise_aug_strength=torch.full((batch,), sampling.noise_aug_strength),
                generator=generator,
                fps=sampling.fps - (sampling.conditioning == "released"),
                motion_bucket_id=sampling.motion_bucket_id,
                encode_chunk_size=sampling.encode_chunk_size,
                guide_rows=guide_rows,
            )
        both = _with_unconditional_rows(conditions, sampling) if sampling.guidance_scale > 1.0 else conditions

        # 4. Initial latents, and denoising
        if latents is None:
            latents = self._draw_latents(modal.shape, generator, device)
        if sampling.initial_noise == "zero":
            latents = torch.zeros_like(latents)
        latents = latents.to(device, torch.float32) * scheduler.init_noise_sigma
        latents = self._denoise(latents, scheduler, conditions, both, sampling)

        # 5. Decode
        video = torch.zeros(batch, frames, 3, *modal.shape[3:], device=device)
        with tf32_beside(self.unet, device):
            for row, run in enumerate(runs):
                part, chunk = latents[row : row + 1, run], sampling.decode_chunk_size
                clip = self.relief.decode(self.vae, part, decode_chunk_size=chunk)
                video[row, run] = clip[0].clamp(-1.0, 1.0)
        self.maybe_free_model_hooks()
        return ConditionedVideoOutput(video=video, latents=latents)

    def _draw_latents(self, shape: torch.Size, generator: Generators | None, device: torch.device) -> Tensor:
        """Initial noise of unit variance, float32 ``[B, F, 4, h, w]``, for pixels of a shape ``[B, F, C, H, W]``."""
        factor = spatial_factor(self.vae)
        latent_shape = (*shape[:2], LATENT_CHANNELS, shape[3] // factor, shape[4] // factor)
        generators = generator if isinstance(generator, torch.Generator | None) else list(generator)
        return randn_tensor(latent_shape, generator=generators, device=device, dtype=torch.float32)

    def _denoise(
        self,
        latents: Tensor,
        scheduler: SchedulerMixin,
        conditions: Conditions,
        both: Conditions,
        sampling: SamplingConfig,
    ) -> Tensor:
        """Follow the scheduler from noise to a clip.

        Nothing in the loop makes the host wait for the device: no value is read from it, and no tensor copied to it.

        Args:
            latents: noise at the highest level, float32 ``[B, F, 4, h, w]``; they stay float32 whatever the network's
                dtype.
            scheduler: its noise levels are set.
            conditions: of ``B`` rows.
            both: with the unconditional rows above them, for steps under guidance.
            sampling: guidance and conditioning.

        Returns:
            float32 ``[B, F, 4, h, w]``.
        """
        low, high = sampling.guidance_interval or (0.0, math.inf)
        tokens_context = one_token_per_frame(self.unet) if sampling.conditioning == "released" else nullcontext()
        dtype, batch = self.unet.dtype, len(latents)
        # One clip's frames fill a CPU; alone in its call, a clip's result does not depend on its batch there.
        on_cpu = latents.device.type == "cpu"
        groups = [slice(first, None, batch) for first in range(batch)] if on_cpu else [slice(None)]
        with tokens_context, self.progress_bar(total=len(scheduler.timesteps)) as bar:
            for timestep, sigma in zip(scheduler.timesteps, scheduler.sigmas[:-1].tolist(), strict=True):
                guided = sampling.guidance_scale > 1.0 and low <= sigma <= high
                given = both if guided else conditions
                scaled = scheduler.scale_model_input(latents, timestep).repeat(1 + guided, 1, 1, 1, 1)
                sample = torch.cat([scaled, given.latents], dim=2).to(dtype)  # [rows, F, 12, h, w]
                output = torch.empty_like(scaled)
                for rows in groups:
                    output[rows] = self.unet(
                        sample[rows],
                        timestep,
                        encoder_hidden_states=given.tokens[rows].to(dtype),
                        added_time_ids=given.added_time_ids[rows].to(dtype),
                        return_dict=False,
                    )[0]
                if guided:
                    without, with_conditions = output.chunk(2)
                    output = without + sampling.guidance_scale * (with_conditions - without)
                latents = scheduler.step(output, timestep, latents).prev_sample
                bar.update()
        return latents

    def _check_inputs(self, modal: Tensor, guide: Tensor | None, latents: Tensor | None) -> None:
        """Raise an InputError that names the argument which is out of range."""
        factor = spatial_factor(self.vae)
        if modal.ndim != 5 or modal.shape[2] not in (1, 3) or not modal.is_floating_point() or 0 in modal.shape:
            raise InputError(f"modal: expected float [B, F, 1 or 3, H, W], got {modal.dtype} {list(modal.shape)}")
        batch, frames, _, height, width = modal.shape
        if height % factor or width % factor:
            raise InputError(
                f"modal: expected height and width in multiples of {factor}, got {height}x{width}; pad or resize"
            )
        if guide is not None and (
            guide.ndim != 5 or guide.shape[2] not in (1, 3) or guide.shape[3:] != modal.shape[3:]
            or guide.shape[:2] != modal.shape[:2] or not guide.is_floating_point()
        ):  # fmt: skip
            raise InputError(
                f"guide: expected float [{batch}, {frames}, 1 or 3, {height}, {width}] to match modal, got "
                f"{guide.dtype} {list(guide.shape)}"
            )
        wanted = (batch, frames, LATENT_CHANNELS, height // factor, width // factor)
        if latents is not None and tuple(latents.shape) != wanted:
            raise InputError(f"latents: expected {list(wanted)}, got {list(latents.shape)}")


def _frames_to_decode(decoded: slice | Sequence[slice], *, batch: int, frames: int) -> list[slice]:
    """The run of frames of each clip whose video is wanted."""
    runs = [decoded] * batch if isinstance(decoded, slice) else list(decoded)
    if len(runs) != batch or not all(range(frames)[run] for run in runs):
        raise InputError(f"decoded: expected a run of some of {frames} frames, or {batch} runs, got {decoded}")
    return runs


def _with_unconditional_rows(conditions: Conditions, sampling: SamplingConfig) -> Conditions:
    """Stack the unconditional rows of all clips over the conditional ones."""
    zero = unconditional(conditions)
    tokens = torch.cat([zero.tokens, conditions.tokens])  # [2B, F, D]
    if sampling.conditioning == "released":
        # The reference interleaves zero and token over the 2F rows of a clip while its batch is all zero rows
        # first: a row of either half then meets another row's token (docs/method.md, section 6, row 1).
        mixed = rearrange([zero.tokens, conditions.tokens], "two b f d -> b (f two) d")
        tokens = rearrange(mixed, "b (half f) d -> (half b) f d", half=2)
    return replace(
        conditions,
        tokens=tokens,
        latents=torch.cat([zero.latents, conditions.latents]),
        added_time_ids=conditions.added_time_ids.repeat(2, 1),
    )


@dataclass(frozen=True)
class WindowRequest:
    """One window of one object, to be sampled.

    Attributes:
        start: number in the stream of the first frame.
        modal: float ``[F, 1 or 3, h, w]`` in [-1, 1].
        guide: likewise, or None.
        decoded: first frame of the window that the video is wanted of, and one past the last.
    """

    start: int
    modal: Tensor
    guide: Tensor | None
    decoded: tuple[int, int]


def sample_windows(
    pipeline: ConditionedVideoPipeline,
    requests: Sequence[WindowRequest],
    sampling: SamplingConfig,
    *,
    seed: int,
    flip: tuple[int, ...] = (),
    keep: Callable[[Tensor], Tensor] = torch.Tensor.detach,
) -> list[Tensor]:
    """Sample windows; those of equal shapes are rows of one network call.

    The initial noise of a frame depends on the seed and the frame's number alone, so windows agree where they overlap.
    On a CPU each window gets to the bit what it gets alone; elsewhere the last bits may depend on the other rows.

    Args:
        pipeline: of the stage.
        requests: the windows, any number.
        sampling: of the stage; ``samples`` videos are made of each window.
        seed: the same seed gives the same videos.
        flip: axes of ``[F, C, h, w]`` along which the network sees the windows mirrored, for test-time augmentation: 0
            is time, in which each frame keeps its own noise, and -1 the width. The videos are mirrored back.
        keep: what is kept of a video, ``[samples, F, 3, h, w]`` to ``[samples, F, ..., w]``, computed where the network
            runs; all of it by default.

    Returns:
        for each window, float32 ``[samples, F, 3, h, w]`` in [-1, 1], 0 in frames that are not decoded, or what is kept
        of it; on the CPU.
    """
    videos: dict[int, Tensor] = {}
    shapes = [(tuple(request.modal.shape), request.guide is not None) for request in requests]
    for shape in dict.fromkeys(shapes):
        group = [number for number, other in enumerate(shapes) if other == shape]
        for attempt in pipeline.relief.parts(group):
            with attempt:
                together = [requests[number] for number in attempt.items]
                rows = [_row(pipeline, request, sampling, seed=seed, flip=flip) for request in together]
                guides = [row.guide for row in rows if row.guide is not None]
                output = pipeline(
                    _joined([row.modal for row in rows]),
                    _joined(guides) if guides else None,
                    sampling=sampling,
                    generator=[generator for row in rows for generator in row.generators],
                    latents=torch.cat([row.latents for row in rows]),
                    decoded=[row.decoded for row in rows for _ in row.generators],
                    guide_rows=_shared_guides(together, sampling.samples) if guides else None,
                )
                for number, video in zip(attempt.items, output.video.split(sampling.samples), strict=True):
                    videos[number] = keep(video).cpu().flip([axis + 1 if axis >= 0 else axis for axis in flip])
    return [videos[number] for number in range(len(requests))]


def _joined(rows: Sequence[Tensor]) -> Tensor:
    """Rows of one batch; a single one is not copied."""
    return rows[0] if len(rows) == 1 else torch.cat(list(rows))


def _shared_guides(requests: Sequence[WindowRequest], samples: int) -> tuple[int, ...]:
    """For each row, the first row with the same guide and the same noise on it.

    The depth of a clip is the guide of all its objects where the geometry is not that of an object's crop, and the
    noise depends on the window's start and the sample, not on the object. So one encoded guide serves them all.
    """
    places: list[int] = []
    for number, request in enumerate(requests):
        same = (
            other
            for other in range(number)
            if requests[other].start == request.start and _equal(requests[other].guide, request.guide)
        )
        places.append(next(same, number))
    return tuple(place * samples + sample for place in places for sample in range(samples))


def _equal(one: Tensor | None, other: Tensor | None) -> bool:
    return one is not None and other is not None and torch.equal(one, other)


@dataclass(frozen=True)
class _Row:
    """A window as the pipeline takes it, once for each sample."""

    modal: Tensor
    guide: Tensor | None
    generators: list[torch.Generator]
    latents: Tensor
    decoded: slice


def _row(
    pipeline: ConditionedVideoPipeline,
    request: WindowRequest,
    sampling: SamplingConfig,
    *,
    seed: int,
    flip: tuple[int, ...],
) -> _Row:
    frames, _, height, width = request.modal.shape
    factor, key, count = spatial_factor(pipeline.vae), _STAGE_KEYS[pipeline.stage], sampling.samples
    numbers = range(request.start, request.start + frames)[:: -1 if 0 in flip else 1]
    cells = (LATENT_CHANNELS, height // factor, width // factor)
    noise = [
        torch.randn(cells, generator=_generator(seed, key, number, *_sample_key(sample)))
        for sample in range(count)
        for number in numbers
    ]
    first, last = request.decoded
    modal, guide = request.modal, request.guide
    if flip:  # without axes it would copy all the same
        modal, guide = modal.flip(flip), None if guide is None else guide.flip(flip)
    return _Row(
        modal=modal.expand(count, -1, -1, -1, -1),
        guide=None if guide is None else guide.expand(count, -1, -1, -1, -1),
        generators=[_generator(seed, key, request.start, 1, *_sample_key(sample)) for sample in range(count)],
        latents=torch.stack(noise).unflatten(0, (count, frames)),
        decoded=slice(frames - last, frames - first) if 0 in flip else slice(first, last),
    )


def _sample_key(sample: int) -> tuple[int, ...]:
    """Keys that tell the random numbers of a sample from those of the first, which adds nothing."""
    return (2, sample) if sample else ()


def _generator(*keys: int) -> torch.Generator:
    """Randomness that depends on the keys alone."""
    return torch.Generator().manual_seed(int(np.random.SeedSequence(keys).generate_state(1)[0]))
