"""Settings of a training run, from YAML and command-line options; the defaults are the paper's (docs/method.md)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Literal

from amodal_diffusion.basics import InputError, Stage
from amodal_diffusion.config import Attention, SamplingConfig, Trainable
from amodal_diffusion.training.data_settings import DataSettings
from amodal_diffusion.training.run_settings import RunSettings


@dataclass(frozen=True)
class UNetSettings:
    """Shape of a UNet that is trained from scratch.

    Attributes:
        block_out_channels: number of channels of each level, from finest to coarsest; multiples of 32.
        attention_levels: levels with cross-attention; 0 is the finest.
        layers_per_block: number of residual layers per level.
        transformer_layers_per_block: number of transformer layers of each block with cross-attention.
        num_attention_heads: number of attention heads of each level.
        cross_attention_dim: width ``D`` of the image encoder's tokens.
        addition_time_embed_dim: width of the embedding of each of the three added time IDs.
    """

    block_out_channels: tuple[int, ...] = (320, 640, 1280, 1280)
    attention_levels: tuple[int, ...] = (0, 1, 2)
    layers_per_block: int = 2
    transformer_layers_per_block: int = 1
    num_attention_heads: tuple[int, ...] = (5, 10, 20, 20)
    cross_attention_dim: int = 1024
    addition_time_embed_dim: int = 256

    def __post_init__(self) -> None:
        """Check that all settings have the same number of levels.

        Raises:
            InputError: if the attention heads or attention levels do not match the channels.
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
    """Shape of an image encoder with random, frozen weights.

    Attributes:
        image_size: side in pixels of the square that frames are resized to.
        patch_size: side of a patch in pixels.
        hidden_size: width of the layers.
        num_hidden_layers: number of layers.
        num_attention_heads: number of attention heads per layer.
        seed: random seed of the weights.
    """

    image_size: int = 64
    patch_size: int = 16
    hidden_size: int = 64
    num_hidden_layers: int = 2
    num_attention_heads: int = 4
    seed: int = 0


@dataclass(frozen=True)
class LoraSettings:
    """LoRA of the temporal transformer blocks, trained with ``model.trainable: lora``.

    Attributes:
        rank: rank of each update; a higher rank comes closer to full training of the blocks.
        alpha: LoRA alpha; each update is multiplied by ``alpha / rank``.
    """

    rank: int = 16
    alpha: float = 16.0

    def __post_init__(self) -> None:
        """Check the rank.

        Raises:
            InputError: if the rank is below 1.
        """
        if self.rank < 1:
            raise InputError(f"model.lora.rank: expected at least 1, got {self.rank}")


CompileMode = Literal["default", "reduce-overhead", "max-autotune"]


@dataclass(frozen=True)
class ModelSettings:
    """Initial weights of the networks, and the part of the UNet that is trained.

    Attributes:
        base: initial checkpoint, of this package's or the released layout: bundled name, folder, or Hub ID.
        svd: initial Stable Video Diffusion checkpoint, folder or Hub ID; 4 zero-initialized input channels are added to
            its UNet.
        unet: shape of a randomly initialized UNet, used if neither ``base`` nor ``svd`` is given.
        new_image_encoder: shape of the image encoder, used if no base and no ``image_encoder`` is given.
        vae: folder of an autoencoder to use instead of the base's.
        image_encoder: folder of an image encoder to use instead of the base's.
        scheduler: folder of a scheduler to use instead of the base's.
        trainable: ``paper`` trains the temporal transformer blocks and ``conv_in``; ``all`` trains the whole UNet;
            ``lora`` trains low-rank updates of these blocks and ``conv_in`` (needs the ``peft`` extra).
        lora: rank and scale of the updates with ``trainable: lora``.
        attention: ``sdpa`` is PyTorch's fused attention; ``plain`` uses explicit matrix products, a fifth faster for
            small models on a CPU; ``xformers`` needs the ``xformers`` extra.
        gradient_checkpointing: recompute activations in the backward pass to save memory.
        compile: compile the UNet with `torch.compile`; the first steps take minutes, later steps are faster.
        compile_mode: mode of `torch.compile`. On a GPU, ``reduce-overhead`` captures the compiled kernels of the
            forward and backward pass as CUDA graphs: with one clip a card, launching kernels one by one takes three
            quarters of a step.
        depth_model: Depth Anything network that estimates the guide of stage 1. Its name is stored in the exported
            checkpoint. For an annotation file, depth that ``data.cache`` lacks is computed during training.
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
    compile_mode: CompileMode = "default"
    depth_model: str | None = None


CommHook = Literal["none", "bf16"]
Schedule = Literal["constant", "cosine"]
OptimizerName = Literal["adamw", "adamw8bit"]


@dataclass(frozen=True)
class NoiseSettings:
    """Distributions of the training noise; the paper's are log-normal (docs/method.md, section 3).

    Attributes:
        sigma_log_mean: mean of ``ln sigma``, the noise level of the latents.
        sigma_log_std: standard deviation of ``ln sigma``.
        highest_share: share of the clips at the sampler's highest level, 700, which a single step starts from.
        uniform_share: share of the clips whose ``ln sigma`` is uniform over the sampler's levels, 0.002 to 700.
        condition_log_mean: mean of ``ln s``, the strength of the noise on the condition pixels.
        condition_log_std: standard deviation of ``ln s``.
    """

    sigma_log_mean: float = 0.7
    sigma_log_std: float = 1.6
    highest_share: float = 0.0
    uniform_share: float = 0.0
    condition_log_mean: float = -3.0
    condition_log_std: float = 0.5

    def __post_init__(self) -> None:
        """Check the shares.

        Raises:
            InputError: if they are out of range.
        """
        shares = (self.highest_share, self.uniform_share)
        if min(shares) < 0.0 or sum(shares) > 1.0:
            raise InputError(
                "noise.highest_share, noise.uniform_share: expected at least 0 and at most 1 together, got "
                f"{shares[0]} and {shares[1]}"
            )


@dataclass(frozen=True)
class OneStepSettings:
    """Fine-tuning of a trained stage to one deterministic step (docs/training.md, section 9).

    Attributes:
        enabled: train from the highest noise level of the sampling schedule, with noise of zero.
        teacher: model whose samples are the target for some clips, which folds its guidance in: bundled name, folder or
            Hub ID. It is sampled as its checkpoint says. None trains on true targets alone.
        teacher_share: share of the clips that have the teacher's sample as target; `train/precompute.py` makes them.
        frame_stages: pairs (frames, steps): for the first ``steps`` optimizer steps, clips are cut to ``frames``
            consecutive frames, then for those of the next pair; the remaining steps see whole clips.
    """

    enabled: bool = False
    teacher: str | None = None
    teacher_share: float = 0.5
    frame_stages: tuple[tuple[int, int], ...] = ()

    def __post_init__(self) -> None:
        """Check the share and the stages.

        Raises:
            InputError: if one is out of range, or given although training to one step is not enabled.
        """
        if not 0.0 < self.teacher_share <= 1.0:
            raise InputError(f"one_step.teacher_share: expected above 0 and at most 1, got {self.teacher_share}")
        if any(frames < 1 or steps < 1 for frames, steps in self.frame_stages):
            raise InputError(
                f"one_step.frame_stages: expected pairs [frames, steps] of at least 1, got {list(self.frame_stages)}"
            )
        unused = {"teacher": self.teacher is not None, "frame_stages": bool(self.frame_stages)}
        if not self.enabled and any(unused.values()):
            name = next(name for name, given in unused.items() if given)
            raise InputError(
                f"one_step.{name}: expected one_step.enabled beside it, got false; enable it, or leave it out"
            )

    def frames_at(self, step: int) -> int | None:
        """Number of frames that clips are cut to in an optimizer step, counted from 0; None for whole clips."""
        for frames, steps in self.frame_stages:
            if step < steps:
                return frames
            step -= steps
        return None


@dataclass(frozen=True)
class OptimizerSettings:
    """Optimizer, learning rate schedule, and exponential moving average (EMA) of the weights.

    Attributes:
        name: ``adamw``, or ``adamw8bit``, whose moments take a quarter of the memory (needs the ``bitsandbytes``
            extra).
        learning_rate: peak learning rate.
        betas: decay rates of AdamW's two moments.
        weight_decay: decoupled weight decay of AdamW.
        epsilon: AdamW's epsilon, added to the root of the second moment.
        warmup_steps: number of steps over which the learning rate rises linearly from 0.
        schedule: learning rate after the warmup: ``constant``, or ``cosine`` decay to 0 at the last step.
        max_grad_norm: gradients are clipped to this norm.
        ema_decay: decay of the EMA of the weights, which is validated and exported; 0 disables it.
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
    """Validation on fixed clips during training.

    Attributes:
        every: number of steps between validations; 0 disables them.
        clips: number of clips, distributed over the processes.
        pictures: number of clips shown in the image.
    """

    every: int = 1000
    clips: int = 16
    pictures: int = 4


@dataclass(frozen=True)
class TrainingSettings(RunSettings):
    """All settings of a training run.

    Attributes:
        stage: stage to train.
        global_batch_size: number of clips per optimizer step over all processes; the number of gradient accumulation
            steps follows from it. None uses ``gradient_accumulation_steps``.
        gradient_accumulation_steps: number of batches per optimizer step of a process, without ``global_batch_size``.
        mixed_precision: ``no``, ``bf16`` or ``fp16``. The trained weights and the optimizer stay in float32. So does a
            VAE with ``force_upcast`` in its settings under ``fp16``; under ``bf16`` it encodes conditions in bfloat16.
        ddp_comm_hook: ``bf16`` sums the gradients of all processes in bfloat16, which halves what they send; ``none``
            in float32. It is for GPUs with DistributedDataParallel, the launch without FSDP and DeepSpeed.
        conditioning_dropout: probability ``p`` of docs/method.md, section 3.
        pixel_weight: weight of the squared error of decoded frames, added to that of the latents; 0 disables it. It is
            cheap with a small autoencoder.
        pixel_frames: number of consecutive frames of each clip that are decoded for the pixel loss.
        hidden_weight: weight in both losses of what the modal condition does not show, beside 1 for everything; 0
            weighs all alike.
        seed: random seed of new weights, the order of the clips and all noise.
        dry_run: print the resolved settings and a memory plan, and exit.
        model: networks, and the part of the UNet that is trained.
        data: clips and cache.
        noise: noise levels of training.
        one_step: fine-tuning to one deterministic step.
        optimizer: optimizer, learning rate schedule and EMA.
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
    global_batch_size: int | None = None
    ddp_comm_hook: CommHook = "none"
    conditioning_dropout: float = 0.1
    pixel_weight: float = 0.0
    pixel_frames: int = 2
    hidden_weight: float = 0.0
    dry_run: bool = False
    model: ModelSettings = field(default_factory=ModelSettings)
    data: DataSettings = field(default_factory=DataSettings)
    noise: NoiseSettings = field(default_factory=NoiseSettings)
    one_step: OneStepSettings = field(default_factory=OneStepSettings)
    optimizer: OptimizerSettings = field(default_factory=OptimizerSettings)
    validation: ValidationSettings = field(default_factory=ValidationSettings)
    sampling: SamplingConfig = field(default_factory=SamplingConfig)

    def __post_init__(self) -> None:
        """Check settings that would otherwise fail late.

        Raises:
            InputError: if a setting is wrong; the message names the first.
        """
        super().__post_init__()
        if self.pixel_frames < 1:
            raise InputError(f"pixel_frames: expected at least 1, got {self.pixel_frames}")
        if self.model.compile and self.sampling.conditioning == "released":
            raise InputError(
                "model.compile: expected false beside sampling.conditioning released, whose validation changes the "
                "network in a way that compiled code does not see; got true"
            )
        self._check_tracks()
        self._check_one_step()
        for name in ("pixel_weight", "hidden_weight"):
            if getattr(self, name) < 0:
                raise InputError(f"{name}: expected at least 0, got {getattr(self, name)}")
        if not 0.0 <= self.conditioning_dropout <= 1 / 3:
            raise InputError(f"conditioning_dropout: expected 0 to 1/3, got {self.conditioning_dropout}")
        if self.global_batch_size is not None and self.gradient_accumulation_steps != 1:
            raise InputError(
                "gradient_accumulation_steps: follows from global_batch_size, expected 1 (the default) beside it, got "
                f"{self.gradient_accumulation_steps}; give one of the two"
            )

    def batches_per_step(self, processes: int) -> int:
        """Number of gradient accumulation steps.

        Args:
            processes: number of processes of the launch.

        Raises:
            InputError: if ``global_batch_size`` is not a multiple of ``processes * batch_size``.
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

    def _check_one_step(self) -> None:
        """Check that a run to one step exports a checkpoint of one step, and that its teacher's samples can be made."""
        one_step = self.one_step
        if not one_step.enabled:
            if self.sampling.initial_noise == "zero":
                raise InputError(
                    "sampling.initial_noise: expected random, as a run without one_step.enabled does not train the "
                    "step from noise of zero; got zero"
                )
            return
        if self.conditioning_dropout > 0:
            raise InputError(
                "conditioning_dropout: expected 0 beside one_step.enabled, as one step is sampled without guidance, "
                f"got {self.conditioning_dropout}"
            )
        if self.hidden_weight > 0:
            raise InputError(
                "hidden_weight: expected 0 beside one_step.enabled, whose loss weighs all alike, got "
                f"{self.hidden_weight}"
            )
        if (self.sampling.num_inference_steps, self.sampling.initial_noise) != (1, "zero"):
            raise InputError(
                "sampling.num_inference_steps, sampling.initial_noise: expected 1 and zero beside one_step.enabled, "
                f"got {self.sampling.num_inference_steps} and {self.sampling.initial_noise}"
            )
        in_stages = sum(steps for _, steps in one_step.frame_stages)
        if in_stages >= self.steps:
            raise InputError(
                f"one_step.frame_stages: expected stages of less than {self.steps} steps in all, so that the last "
                f"steps see whole clips, got {in_stages}"
            )
        if one_step.teacher is not None:
            self._check_teacher()

    def _check_teacher(self) -> None:
        if self.data.cache is None:
            raise InputError("data.cache: expected a folder beside one_step.teacher, for its samples; got none")
        if self.data.occluders.annotations is not None:
            raise InputError(
                "one_step.teacher: expected none beside data.occluders.annotations, which makes every clip unique, so "
                f"that no sample can be made before training; got {self.one_step.teacher}"
            )
        if self.data.guide_dropout not in (0.0, 1.0):
            raise InputError(
                "data.guide_dropout: expected 0 or 1 beside one_step.teacher, whose sample depends on the guide, got "
                f"{self.data.guide_dropout}"
            )

    def _check_tracks(self) -> None:
        """Check that recorded clips come with the files that the stage and the validation need."""
        data = self.data
        if not data.sources:
            return
        if self.validation.every and data.validation_source is None:
            data.check_files()  # a wrong name is the first thing to say
            name, kind = ("shards", "shards") if data.shards else ("annotations", "an annotation file")
            raise InputError(
                f"data.validation_{name}: expected {kind} of other clips than those of training, got none; name one, "
                "or give validation.every=0"
            )
        needed = self.stage == "content_completion" and data.plain_share > 0.0
        given = data.occluders.annotations is not None
        in_shards = all(source.shards is not None for source in data.sources)  # which may have whole objects
        if needed != given and not (needed and in_shards):
            expected = "none where no track stays as it is"
            if self.stage == "amodal_segmentation":
                expected = "none in stage 1"
            elif needed:
                expected = "a file of tracks to hide the objects behind"
            raise InputError(f"data.occluders.annotations: expected {expected}, got {data.occluders.annotations}")
