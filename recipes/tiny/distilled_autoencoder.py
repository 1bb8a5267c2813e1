"""Train a distilled autoencoder of masks and depth to make and read the latents of a big one."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from diffusers import AutoencoderTiny
from torch import Tensor, nn

from amodal_diffusion.config import BeyondPaper, SamplingConfig
from amodal_diffusion.data.samples import AmodalSample, SceneDataset
from amodal_diffusion.frames.transforms import mask_to_unit
from amodal_diffusion.models.conditioning import add_condition_noise
from amodal_diffusion.models.hub import load_vae
from amodal_diffusion.models.latents import Autoencoder, decode_latents, encode_video, spatial_factor
from amodal_diffusion.models.saving import save_network
from amodal_diffusion.training.dataset import ClipPreprocessing
from amodal_diffusion.types import InputError
from recipes.tiny.autoencoder import SCENE_HEIGHT, SCENE_WIDTH
from recipes.tiny.loop import end, train_steps

logger = logging.getLogger(__name__)

_KINDS = 4  # rows of `pictures_of`: whole masks first


@dataclass(frozen=True)
class DistillationSettings:
    """Settings of one run.

    Attributes:
        teacher: folder of the autoencoder to learn from.
        out: folder of the run; the distilled autoencoder is exported to its ``vae/``.
        channels: of all its layers.
        encoder_blocks: residual blocks a level, from full resolution down; one entry a level of the teacher.
        decoder_blocks: residual blocks a level, from the latents up.
        clips: scenes generated for training, held in memory with the teacher's latents.
        validation_clips: scenes of the validation split that are measured at the end.
        frames: of a clip.
        height: pixels of a crop.
        width: pixels of a crop.
        crop_scale: of the crops, as ``sampling.beyond.crop_scale`` of the stages.
        noise: half of the pictures are encoded with noise of a strength up to this, as conditions are in training.
        batch_size: pictures a step and process.
        steps: optimizer steps.
        learning_rate: peak, reached after 2 % of the steps; falls to zero as a cosine.
        mixed_precision: ``no``, ``bf16`` or ``fp16``.
        save_every: steps between checkpoints, from which the same command goes on.
        seed: of weights, scenes and draws.
    """

    teacher: Path = Path("runs/tiny_vae/vae")
    out: Path = Path("runs/tiny_light_vae")
    channels: int = 32
    encoder_blocks: tuple[int, ...] = (0, 1, 2)
    decoder_blocks: tuple[int, ...] = (3, 1, 0)
    clips: int = 240
    validation_clips: int = 30
    frames: int = 8
    height: int = 96
    width: int = 96
    crop_scale: float = 2.0
    noise: float = 0.1
    batch_size: int = 32
    steps: int = 4000
    learning_rate: float = 2e-3
    mixed_precision: Literal["no", "bf16", "fp16"] = "bf16"
    save_every: int = 1000
    seed: int = 0


@dataclass(frozen=True)
class Examples:
    """Pictures and what the teacher makes of them.

    Attributes:
        pictures: whole masks, visible masks, these with what other frames show, depth; float16 ``[N, 4, 1, H, W]`` in
            [-1, 1], some with noise.
        latents: of the teacher, scaled, float16 ``[N, 4, 4, h, w]``.
        masks: whole masks without noise, bool ``[N, H, W]``.
        frames: of a clip; those of each clip lie together, in order.
    """

    pictures: Tensor
    latents: Tensor
    masks: Tensor
    frames: int


def distill_autoencoder(settings: DistillationSettings) -> dict[str, float]:
    """Train, measure and export; goes on from the run's newest checkpoint if there is one.

    Args:
        settings: of the run.

    Returns:
        the figures measured on validation scenes, as written to ``figures.json``.

    Raises:
        InputError: if the teacher cannot be loaded or has another number of levels.
    """
    teacher = load_vae(settings.teacher)
    accelerator = Accelerator(mixed_precision=settings.mixed_precision, cpu=not torch.cuda.is_available())
    logger.info("process %d of %d", accelerator.process_index + 1, accelerator.num_processes)
    set_seed(settings.seed)
    student = build_student(settings, teacher)
    share = range(accelerator.process_index, settings.clips, accelerator.num_processes)
    examples = prepare_examples(teacher.to(accelerator.device), settings, share, autocast=accelerator.autocast)

    def draw(_: int, rng: np.random.Generator) -> tuple[Tensor, ...]:
        return draw_examples(examples, settings.batch_size, rng, accelerator.device)

    train_steps(accelerator, DistillationLoss(student), settings, draw=draw)
    figures: dict[str, float] = {}
    if accelerator.is_main_process:
        student.eval()
        figures = measure(student, teacher, settings)
        save_network(student, settings.out / "vae")
        (settings.out / "figures.json").write_text(json.dumps(figures, indent=2), encoding="utf-8")
        logger.info("validation scenes: %s", figures)
    end(accelerator)
    return figures


def build_student(settings: DistillationSettings, teacher: Autoencoder) -> AutoencoderTiny:
    """The stock distilled autoencoder with random weights, for the teacher's latents.

    Raises:
        InputError: if it would have another number of levels than the teacher.
    """
    levels = spatial_factor(teacher).bit_length()
    for name in ("encoder_blocks", "decoder_blocks"):
        if len(getattr(settings, name)) != levels:
            raise InputError(
                f"{name}: expected {levels} entries, one a level of the teacher, got {len(getattr(settings, name))}"
            )
    return AutoencoderTiny(
        encoder_block_out_channels=(settings.channels,) * levels,
        decoder_block_out_channels=(settings.channels,) * levels,
        num_encoder_blocks=settings.encoder_blocks,
        num_decoder_blocks=settings.decoder_blocks,
        scaling_factor=teacher.config.scaling_factor,
    )


class DistillationLoss(nn.Module):
    """The distilled autoencoder with its loss: one call, so that several processes average their gradients."""

    def __init__(self, student: AutoencoderTiny) -> None:
        """Wrap the network; its weights stay its own."""
        super().__init__()
        self.student = student

    def forward(self, pictures: Tensor, latents: Tensor, mixed: Tensor, targets: Tensor) -> Tensor:
        """Squared error of the latents, and absolute and squared error of the pixels.

        Args:
            pictures: to encode, float ``[N, 3, H, W]`` in [-1, 1].
            latents: what the teacher makes of them, scaled, float ``[N, 4, h, w]``.
            mixed: latents to decode, scaled, float ``[M, 4, h, w]``.
            targets: what they show, float ``[M, 1, H, W]`` in [-1, 1].

        Returns:
            scalar.
        """
        encoded = self.student.encode(pictures).latents.float()
        error = self.student.decode(mixed).sample.float() - targets
        return (encoded - latents).square().mean() + error.abs().mean() + error.square().mean()


def pictures_of(sample: AmodalSample, settings: DistillationSettings) -> Tensor:
    """What stage 1 encodes of a clip: float32 ``[F, 4, 1, H, W]`` in [-1, 1], see :class:`Examples`."""
    if sample.rgb is None or sample.depth is None:
        raise InputError(f"{sample.name}: a distilled autoencoder learns from RGB and depth; one is missing")
    beyond = BeyondPaper(crop_scale=settings.crop_scale, temporal_prior=True)
    config = SamplingConfig(
        height=settings.height, width=settings.width, num_frames=settings.frames, fit="crop", beyond=beyond
    )
    batch = ClipPreprocessing("amodal_segmentation", config)(sample)
    modal = (batch.modal[0] > 0).float() * 2 - 1  # without the temporal prior
    return torch.stack([batch.amodal[0], modal, batch.modal[0], batch.guide[0]], 1)


@torch.no_grad()
def prepare_examples(
    teacher: Autoencoder,
    settings: DistillationSettings,
    indices: range,
    *,
    autocast: Callable[[], AbstractContextManager[object]] = nullcontext,
) -> Examples:
    """Have the teacher encode the training pictures.

    Args:
        teacher: frozen.
        settings: of the run.
        indices: of the scenes.
        autocast: gives the context that the teacher works in.
    """
    dataset = _scenes(settings, "train", length=settings.clips)
    pictures, latents, masks = [], [], []
    for index in indices:
        sample = dataset[index]
        generator = torch.Generator().manual_seed(index)
        clean = pictures_of(sample, settings)
        strength = settings.noise * torch.rand(_KINDS, generator=generator)
        strength = strength * (torch.rand(_KINDS, generator=generator) < 0.5)
        video = add_condition_noise(clean.transpose(0, 1), strength, generator=generator)  # [4, F, 3, H, W]
        with autocast():
            encoded = encode_video(teacher, video)  # [4, F, 4, h, w]
        pictures.append(video.transpose(0, 1).half())
        latents.append((encoded * teacher.config.scaling_factor).transpose(0, 1).cpu().half())
        masks.append(clean[:, 0, 0] > 0)
    return Examples(torch.cat(pictures), torch.cat(latents), torch.cat(masks), settings.frames)


def draw_examples(
    examples: Examples, count: int, rng: np.random.Generator, device: torch.device | str
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Draw pictures to encode and latents to decode.

    Half of what is decoded are masks, the other half weighted means of the latents of two masks of one object, whose
    picture is the weighted mean of the two: a network that is unsure which of two shapes it is predicts the mean,
    and its decoder should show how sure it is.

    Args:
        examples: to draw from.
        count: of pictures.
        rng: source of randomness.
        device: of the results.

    Returns:
        the arguments of :meth:`DistillationLoss.forward`.
    """
    frames = rng.integers(len(examples.masks), size=count)
    kinds = rng.integers(_KINDS, size=count)
    first = rng.integers(len(examples.masks), size=count)
    start = first - first % examples.frames  # of its clip
    near = np.clip(first + rng.integers(-3, 4, size=count), start, start + examples.frames - 1)
    share = np.where(rng.random(count) < 0.5, 0.0, rng.random(count)).astype(np.float32)
    weight = torch.from_numpy(share)[:, None, None, None]
    whole = examples.latents[:, 0]
    mixed = (1 - weight) * whole[first].float() + weight * whole[near].float()
    values = mask_to_unit(examples.masks.numpy()[np.concatenate([first, near])])  # [2N, 1, H, W]
    targets = (1 - weight) * values[:count] + weight * values[count:]
    drawn = (examples.pictures[frames, kinds].float(), examples.latents[frames, kinds].float(), mixed, targets)
    return tuple(tensor.to(device) for tensor in drawn)  # type: ignore[return-value]


@torch.no_grad()
def measure(student: AutoencoderTiny, teacher: Autoencoder, settings: DistillationSettings) -> dict[str, float]:
    """Figures on validation scenes.

    Args:
        student: trained.
        teacher: what it learned from.
        settings: of the run.

    Returns:
        ``mask_iou`` of masks encoded and decoded by the student, ``teacher_mask_iou`` by the teacher, and
        ``latent_error``: root of the mean squared difference of their scaled latents, whose deviation is about 1.
    """
    dataset = _scenes(settings, "validation", length=settings.validation_clips)
    errors: list[float] = []
    counts = {"mask_iou": np.zeros(2), "teacher_mask_iou": np.zeros(2)}
    for index in range(settings.validation_clips):
        sample = dataset[index]
        video = pictures_of(sample, settings).transpose(0, 1)  # [4, F, 1, H, W]
        latents = {name: encode_video(vae, video) for name, vae in (("mine", student), ("theirs", teacher))}
        scale = teacher.config.scaling_factor
        errors.append(float((scale * (latents["mine"] - latents["theirs"])).square().mean()))
        for name, vae, made in (
            ("mask_iou", student, latents["mine"]),
            ("teacher_mask_iou", teacher, latents["theirs"]),
        ):
            shown = decode_latents(vae, scale * made[:1], decode_chunk_size=settings.frames)[0].mean(1) > 0
            truth = video[0, :, 0] > 0
            counts[name] += (int((shown & truth).sum()), int((shown | truth).sum()))
    ratios = {name: float(overlap / union) for name, (overlap, union) in counts.items()}
    return {**ratios, "latent_error": float(np.sqrt(np.mean(errors)))}


def _scenes(settings: DistillationSettings, split: Literal["train", "validation"], *, length: int) -> SceneDataset:
    return SceneDataset(
        split,
        length=length,
        frames=settings.frames,
        height=SCENE_HEIGHT,
        width=SCENE_WIDTH,
        with_rgb=True,
        seed=settings.seed,
    )
