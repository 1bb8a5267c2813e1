"""The settings of a training run, as YAML and flags give them; the defaults are the paper's (docs/method.md)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Literal

from amodal_diffusion.config import Attention, SamplingConfig
from amodal_diffusion.models.unet import Trainable
from amodal_diffusion.types import InputError, Stage


@dataclass(frozen=True)
class UNetSettings:
    """Shape of a UNet that is trained from scratch.

    Attributes:
        block_out_channels: channels of each level, from the finest down; multiples of 32.
        attention_levels: levels with cross-attention, counted from 0, the finest.
        layers_per_block: residual layers of each level.
        transformer_layers_per_block: attention layers of each block with cross-attention.
        num_attention_heads: attention heads of each level.
        cross_attention_dim: width ``D`` of the image encoder's tokens.
        addition_time_embed_dim: width of the embedding of each of the three time ids.
    """

    block_out_channels: tuple[int, ...] = (320, 640, 1280, 1280)
    attention_levels: tuple[int, ...] = (0, 1, 2)
    layers_per_block: int = 2
    transformer_layers_per_block: int = 1
    num_attention_heads: tuple[int, ...] = (5, 10, 20, 20)
    cross_attention_dim: int = 1024
    addition_time_embed_dim: int = 256

    def __post_init__(self) -> None:
        """Check that the levels agree.

        Raises:
            InputError: if heads or attention levels do not fit the channels.
        """
        levels = len(self.block_out_channels)
        if len(self.num_attention_heads) != levels:
            raise InputError(
                f"model.unet.num_attention_heads: expected {levels} values like block_out_channels, got "
                f"{len(self.num_attention_heads)}"
            )
        if not set(self.attention_levels) <= set(range(levels)):
            raise InputError(
                f"model.unet.attention_levels: expected levels from 0 to {levels - 1}, got {self.attention_levels}"
            )


@dataclass(frozen=True)
class ImageEncoderSettings:
    """Shape of an image encoder with random weights, which stay as they are.

    Attributes:
        image_size: pixels a side that frames are resized to.
        patch_size: pixels a side of a patch.
        hidden_size: width of its layers.
        num_hidden_layers: number of layers.
        num_attention_heads: attention heads of a layer.
        seed: of the random weights.
    """

    image_size: int = 64
    patch_size: int = 16
    hidden_size: int = 64
    num_hidden_layers: int = 2
    num_attention_heads: int = 4
    seed: int = 0


@dataclass(frozen=True)
class LoraSettings:
    """The low-rank updates that ``model.trainable: lora`` trains in place of the temporal transformer blocks.

    Attributes:
        rank: of an update; the more, the closer to training the blocks whole.
        alpha: scale of the updates, times the rank.
    """

    rank: int = 16
    alpha: float = 16.0

    def __post_init__(self) -> None:
        """Check the rank.

        Raises:
            InputError: if it is below 1.
        """
        if self.rank < 1:
            raise InputError(f"model.lora.rank: expected at least 1, got {self.rank}")


@dataclass(frozen=True)
class ModelSettings:
    """Where the networks come from, and what of the UNet is trained.

    Attributes:
        base: checkpoint of this package or of the released layout to start from: bundled name, folder, hub id.
        svd: plain Stable Video Diffusion folder or hub id to start from; its UNet gets 4 new channels of zero.
        unet: shape of the UNet where neither ``base`` nor ``svd`` is given: it starts from random weights.
        new_image_encoder: shape of the image encoder where there is neither a base nor ``image_encoder``.
        vae: folder of the autoencoder, in place of the base's own.
        image_encoder: folder of the image encoder, in place of the base's own.
        scheduler: folder of the sampler, in place of the base's own.
        trainable: ``paper`` trains the temporal transformer blocks and ``conv_in``, ``all`` everything, ``lora``
            low-rank updates of these blocks, and ``conv_in`` (extra ``peft``).
        lora: size of the updates with ``trainable: lora``.
        attention: ``sdpa`` is torch's fused attention; ``plain`` multiplies matrices, which is a fifth faster on a CPU
            for the few tokens of a small model; ``xformers`` is the extra of that name.
        gradient_checkpointing: compute activations again in the backward pass, to save memory.
        compile: run the UNet through `torch.compile`: the first steps take minutes, all others less time.
        depth_model: Depth Anything network whose depth the guide of stage 1 is, noted in the exported checkpoint; of
            an annotation file's frames it is computed, where ``data.cache`` does not hold it.
    """

    base: str | None = None
    svd: str | None = None
    unet: UNetSettings = field(default_factory=UNetSettings)
    new_image_encoder: ImageEncoderSettings = field(default_factory=ImageEncoderSettings)
    vae: Path | None = None
    image_encoder: Path | None = None
    scheduler: Path | None = None
    trainable: Trainable = "paper"
    lora: LoraSettings = field(default_factory=LoraSettings)
    attention: Attention = "sdpa"
    gradient_checkpointing: bool = False
    compile: bool = False
    depth_model: str | None = None


@dataclass(frozen=True)
class OccluderSettings:
    """What complete objects are hidden behind, to train stage 2 on clips that show no hidden colors.

    Attributes:
        annotations: annotation file whose tracks are the occluders; may be that of the clips.
        occlusion: least and largest share of an object that is hidden.
        tries: occluders that are drawn for one clip; a clip that takes more is replaced by another.
    """

    annotations: Path | None = None
    occlusion: tuple[float, float] = (0.3, 0.9)
    tries: int = 5


@dataclass(frozen=True)
class DataSettings:
    """The clips: generated scenes, or the tracks of an annotation file (docs/data.md).

    Attributes:
        annotations: annotation file in the layout of SAIL-VOS sequences, all of whose tracks are trained on; None
            trains on generated scenes.
        images: root of its frames; its own folder by default.
        validation_annotations: annotation file for the validation, which takes its first tracks.
        validation_images: root of its frames; its own folder by default.
        index_folder: where the indices of annotation files are kept; beside the files by default.
        occluders: what hides the objects, in stage 2 on an annotation file.
        clips: number of generated scenes of the training split.
        frames: frames ``F`` of a clip.
        height: pixels ``H`` that the model sees.
        width: pixels ``W`` that the model sees.
        scene_height: pixels of the scenes that are cropped (``sampling.fit: crop``); others are made at ``height``.
        scene_width: pixels of the scenes that are cropped.
        seed: chooses the generated scenes; two seeds have no scene in common.
        degraded_share: share of the generated scenes whose masks and depth are corrupted: ragged borders, holes, a
            missing frame; noisy, blurred depth on another scale. Validation scenes stay exact.
        depthless_share: share of the generated scenes that come without depth.
        guide_dropout: share of clips whose guide is dropped (its latents are zero).
        reversed_share: share of clips that are reversed in time.
        cache: folder that `train/precompute.py` has filled (docs/training.md). Of tracks, what it lacks is computed in
            the step; of generated scenes it must hold all. None computes everything in the step.
        workers: processes that load clips ahead; 0 loads them in the training process.
    """

    annotations: Path | None = None
    images: Path | None = None
    validation_annotations: Path | None = None
    validation_images: Path | None = None
    index_folder: Path | None = None
    occluders: OccluderSettings = field(default_factory=OccluderSettings)
    clips: int = 20_000
    frames: int = 25
    height: int = 128
    width: int = 256
    scene_height: int = 64
    scene_width: int = 128
    seed: int = 0
    degraded_share: float = 0.0
    depthless_share: float = 0.0
    guide_dropout: float = 0.0
    reversed_share: float = 0.0
    cache: Path | None = None
    workers: int = 0

    def __post_init__(self) -> None:
        """Check the shares, and that what belongs to an annotation file comes with one.

        Raises:
            InputError: names the first mistake.
        """
        if self.annotations is None:
            files = {
                "images": self.images,
                "validation_annotations": self.validation_annotations,
                "validation_images": self.validation_images,
                "occluders.annotations": self.occluders.annotations,
            }
            given = [name for name, path in files.items() if path is not None]
            if given:
                raise InputError(f"data.{given[0]}: expected data.annotations beside it, got none; name the clips too")
        for name in ("degraded_share", "depthless_share", "guide_dropout", "reversed_share"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise InputError(f"data.{name}: expected a share from 0 to 1, got {getattr(self, name)}")
        for name in ("degraded_share", "depthless_share"):
            if self.annotations is not None and getattr(self, name) > 0.0:
                raise InputError(
                    f"data.{name}: changes generated scenes, but data.annotations is given; expected 0 beside it, got "
                    f"{getattr(self, name)}"
                )

    @property
    def encoded(self) -> bool:
        """Whether clips are read as latents: generated scenes from ``cache``."""
        return self.cache is not None and self.annotations is None


Precision = Literal["no", "bf16", "fp16"]
Schedule = Literal["constant", "cosine"]
OptimizerName = Literal["adamw", "adamw8bit"]
Tracker = Literal["tensorboard", "wandb", "none"]
OnBadSample = Literal["stop", "skip"]


@dataclass(frozen=True)
class NoiseSettings:
    """The noise that training draws (docs/method.md, section 3).

    Attributes:
        sigma_log_mean: mean of ``ln sigma``.
        sigma_log_std: standard deviation of ``ln sigma``.
        condition_log_mean: mean of ``ln s``, the strength of the noise on the condition pixels.
        condition_log_std: standard deviation of ``ln s``.
    """

    sigma_log_mean: float = 0.7
    sigma_log_std: float = 1.6
    condition_log_mean: float = -3.0
    condition_log_std: float = 0.5


@dataclass(frozen=True)
class OptimizerSettings:
    """AdamW, its learning rate over the steps, and the moving average of the weights.

    Attributes:
        name: ``adamw``, or ``adamw8bit`` whose moments take a quarter of the memory (extra ``bitsandbytes``).
        learning_rate: peak learning rate.
        betas: decay of AdamW's two moments.
        weight_decay: decoupled weight decay of AdamW.
        epsilon: added to the root of the second moment.
        warmup_steps: steps over which the learning rate rises linearly from 0.
        schedule: after that, ``constant``, or ``cosine`` down to 0 at the last step.
        max_grad_norm: gradients longer than this are scaled down to it.
        ema_decay: decay of the moving average of the weights, which is validated and exported; 0 turns it off.
    """

    name: OptimizerName = "adamw"
    learning_rate: float = 3e-5
    betas: tuple[float, float] = (0.9, 0.999)
    weight_decay: float = 0.01
    epsilon: float = 1e-8
    warmup_steps: int = 0
    schedule: Schedule = "constant"
    max_grad_norm: float = 1.0
    ema_decay: float = 0.0


@dataclass(frozen=True)
class ValidationSettings:
    """The validation on fixed clips during training.

    Attributes:
        every: steps between two validations; 0 turns them off.
        clips: number of clips, distributed over the processes.
        pictures: clips shown in the picture.
    """

    every: int = 1000
    clips: int = 16
    pictures: int = 4


@dataclass(frozen=True)
class TrainingSettings:
    """All settings of a training run.

    Attributes:
        stage: stage to train.
        output: folder for checkpoints, log and exported model.
        steps: total number of optimizer steps.
        batch_size: clips that a process takes at once.
        global_batch_size: clips of an optimizer step over all processes; the batches that each process takes before
            a step follow from it. None leaves them to ``gradient_accumulation_steps``.
        gradient_accumulation_steps: batches of a process before each optimizer step, without ``global_batch_size``.
        mixed_precision: ``no``, ``bf16`` or ``fp16``; the weights that are trained and the optimizer stay float32, and
            so does a VAE whose settings say ``force_upcast``.
        cpu: stay on the CPU where there is a GPU.
        conditioning_dropout: ``p`` of docs/method.md, section 3.
        pixel_weight: weight of the squared error of decoded frames beside that of the latents; 0 turns it off. A
            distilled autoencoder keeps it cheap.
        pixel_frames: consecutive frames of each clip that are decoded for it.
        seed: of new weights, the order of the clips and all noise.
        resume: ``auto`` goes on from the newest checkpoint in ``output`` if there is one, ``none`` refuses a folder
            that holds any, another value is the checkpoint's folder.
        checkpoint_every: steps between two checkpoints.
        keep_checkpoints: number of checkpoints that are kept.
        max_minutes: stop after this time with a checkpoint and an export; 0 is no limit.
        on_bad_sample: what a clip that cannot be read does: ``stop`` ends the run with its name, ``skip`` counts it and
            takes the next clip of the data in its place.
        max_bad_steps: stop after so many steps in a row whose loss is not finite; each is skipped and logged.
        log_every: steps between two lines of the log.
        tracker: where figures go beside `log.jsonl`: ``tensorboard``, ``wandb`` (extra of that name) or ``none``.
        dry_run: print the resolved settings and a memory plan, and stop.
        model: networks, and which part of the UNet is trained.
        data: clips and caches.
        noise: noise levels of training.
        optimizer: AdamW, learning rate and moving average.
        validation: validation on fixed clips.
        sampling: sampling settings of the exported checkpoint and of the validation.
    """

    MOVED: ClassVar[Mapping[str, str]] = {
        "data.latents": "give data.cache, and run train/precompute.py once more",
        "encode_batch_size": "leave it out, as scenes are encoded one by one",
        "shard_size": "leave it out, as each scene is a file of its own",
    }

    stage: Stage = "amodal_segmentation"
    output: Path = Path("runs/amodal_segmentation")
    steps: int = 10_000
    batch_size: int = 1
    global_batch_size: int | None = None
    gradient_accumulation_steps: int = 1
    mixed_precision: Precision = "no"
    cpu: bool = False
    conditioning_dropout: float = 0.1
    pixel_weight: float = 0.0
    pixel_frames: int = 2
    seed: int = 0
    resume: str = "auto"
    checkpoint_every: int = 500
    keep_checkpoints: int = 2
    max_minutes: float = 0.0
    on_bad_sample: OnBadSample = "stop"
    max_bad_steps: int = 10
    log_every: int = 10
    tracker: Tracker = "tensorboard"
    dry_run: bool = False
    model: ModelSettings = field(default_factory=ModelSettings)
    data: DataSettings = field(default_factory=DataSettings)
    noise: NoiseSettings = field(default_factory=NoiseSettings)
    optimizer: OptimizerSettings = field(default_factory=OptimizerSettings)
    validation: ValidationSettings = field(default_factory=ValidationSettings)
    sampling: SamplingConfig = field(default_factory=SamplingConfig)

    def __post_init__(self) -> None:
        """Check the numbers that would otherwise fail late.

        Raises:
            InputError: names the first that is out of range.
        """
        at_least_one = (
            "steps", "batch_size", "gradient_accumulation_steps", "checkpoint_every", "keep_checkpoints",
            "max_bad_steps", "log_every", "pixel_frames",
        )  # fmt: skip
        for name in at_least_one:
            if getattr(self, name) < 1:
                raise InputError(f"{name}: expected at least 1, got {getattr(self, name)}")
        self._check_tracks()
        if self.pixel_weight < 0:
            raise InputError(f"pixel_weight: expected at least 0, got {self.pixel_weight}")
        if not 0.0 <= self.conditioning_dropout <= 1 / 3:
            raise InputError(f"conditioning_dropout: expected 0 to 1/3, got {self.conditioning_dropout}")
        if self.global_batch_size is not None and self.gradient_accumulation_steps != 1:
            raise InputError(
                "gradient_accumulation_steps: follows from global_batch_size, expected 1 (the default) beside it, got "
                f"{self.gradient_accumulation_steps}; give one of the two"
            )

    def batches_per_step(self, processes: int) -> int:
        """Batches that each process takes before an optimizer step.

        Args:
            processes: number of processes of the launch.

        Raises:
            InputError: if no whole number of them makes up ``global_batch_size``.
        """
        if self.global_batch_size is None:
            return self.gradient_accumulation_steps
        at_once = processes * self.batch_size
        if self.global_batch_size < 1 or self.global_batch_size % at_once:
            raise InputError(
                f"global_batch_size: expected a multiple of {at_once} clips, which {processes} processes x batch_size "
                f"{self.batch_size} take at once, got {self.global_batch_size}; change batch_size or the number of "
                "processes"
            )
        return self.global_batch_size // at_once

    def _check_tracks(self) -> None:
        """Check that an annotation file comes with what the stage and the validation need."""
        data = self.data
        if data.annotations is None:
            return
        if self.validation.every and data.validation_annotations is None:
            raise InputError(
                "data.validation_annotations: expected an annotation file of other clips than data.annotations, got "
                "none; name one, or give --validation.every 0"
            )
        needed = self.stage == "content_completion"
        if needed != (data.occluders.annotations is not None):
            expected = "a file of tracks to hide the objects behind" if needed else "none in stage 1"
            raise InputError(f"data.occluders.annotations: expected {expected}, got {data.occluders.annotations}")
