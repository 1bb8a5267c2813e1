"""Seconds and memory of a training step of stage 1: the reference's way of taking it, and ours.

The reference (docs/method.md) takes one clip at a time, runs the depth network in the step and encodes five clips, two
of which nothing reads. Both ways take the same clips, networks and precision in one run, step by step in turn, so that
whatever else the machine does slows them alike. Memory is that of a process that goes one way only.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from statistics import median
from typing import Literal

import numpy as np
import torch
from _machine import GIB, Machine, measure_machine, peak_memory, wait_for
from diffusers import AutoencoderKLTemporalDecoder
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode
from transformers import (
    CLIPVisionModelWithProjection,
    DepthAnythingConfig,
    DepthAnythingForDepthEstimation,
    Dinov2Config,
    DPTImageProcessorPil,
)

from amodal_diffusion.data.cache import Entry, TensorCache, content_key
from amodal_diffusion.data.samples import AmodalSample, SceneDataset
from amodal_diffusion.frames.transforms import to_unit
from amodal_diffusion.models.checkpoint import CheckpointSettings
from amodal_diffusion.models.depth import DepthEstimator
from amodal_diffusion.models.hub import StageComponents
from amodal_diffusion.models.latents import encode_video
from amodal_diffusion.parsing import parse_settings
from amodal_diffusion.training.dataset import ClipPreprocessing
from amodal_diffusion.training.encoded_scenes import EncodedScenes
from amodal_diffusion.training.latent_cache import LatentCache
from amodal_diffusion.training.latents import LatentBatch, encode_batch
from amodal_diffusion.training.loss import training_loss
from amodal_diffusion.training.networks import (
    COMPUTE_DTYPES,
    build_image_encoder,
    build_scheduler,
    build_unet,
    make_optimizer,
    prepare_unet,
)
from amodal_diffusion.training.order import seeded_generator
from amodal_diffusion.training.run_settings import Precision
from amodal_diffusion.training.settings import (
    DataSettings,
    ImageEncoderSettings,
    ModelSettings,
    TrainingSettings,
    UNetSettings,
)

Way = Literal["reference", "reference-depth-ready", "ours", "ours-depth-ready", "ours-cached", "ours-encoded"]
WAYS: dict[Way, str] = {
    "reference": "reference, depth in the step",
    "reference-depth-ready": "reference, depth precomputed",
    "ours": "ours, no caches, depth in the step",
    "ours-depth-ready": "ours, no caches, depth precomputed",
    "ours-cached": "ours, with caches (data.cache)",
    "ours-encoded": "ours, all encoded (scenes)",
}
TARGETS: tuple[tuple[Way, Way, float], ...] = (  # at least so many times the steps of the second
    ("ours-cached", "reference", 3.0),
    ("ours-cached", "reference-depth-ready", 1.5),
    ("ours", "reference", 1.3),
    ("ours-depth-ready", "reference-depth-ready", 1.3),
)
UNREAD_ENCODES = 2


@dataclass(frozen=True)
class Size:
    """Clips and networks.

    Attributes:
        frames: of a clip.
        height: in pixels.
        width: in pixels.
        unet: its shape.
        vae: widths of its levels.
        image_encoder: its shape.
        depth: pixels a side that the depth network works at, Depth Anything in its small configuration.
    """

    frames: int
    height: int
    width: int
    unet: UNetSettings
    vae: tuple[int, ...]
    image_encoder: ImageEncoderSettings
    depth: int


SIZES = {
    "cpu": Size(
        25, 64, 128,
        UNetSettings((64, 128, 256, 256), (0, 1, 2), 2, 1, (2, 4, 8, 8), cross_attention_dim=256),
        (32, 64, 128, 128), ImageEncoderSettings(224, 14, 256, 8, 4), 252,
    ),
    "full": Size(
        25, 128, 256, UNetSettings(), (128, 256, 512, 512), ImageEncoderSettings(224, 14, 1280, 32, 16), 518
    ),
    "smallest": Size(
        2, 32, 32, UNetSettings((32, 64), (1,), 1, 1, (1, 2), 16, 8), (32, 32),
        ImageEncoderSettings(32, 16, 16, 1, 2), 28,
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Settings:
    """What is measured.

    Attributes:
        size: `cpu`; `full`, which is 1.5 G parameters at 128x256; `smallest`, to see that the script runs.
        steps: of each way, after one that is not counted.
        clips: number of different ones.
        device: torch's name of it.
        precision: of all ways.
        memory_of: measure the memory of this way alone and print it as JSON.
        cache: folder of encoded clips, for `memory_of`.
    """

    size: Literal["cpu", "full", "smallest"] = "cpu"
    steps: int = 21
    clips: int = 4
    device: str = "cpu"
    precision: Precision = "no"
    memory_of: Way | None = None
    cache: Path | None = None


class Bench:
    """Clips and networks, the frozen ones made when a way first asks for them.

    Args:
        settings: what is measured.
        cache: folder of encoded clips.
    """

    def __init__(self, settings: Settings, cache: Path) -> None:
        self.size, self.cache = SIZES[settings.size], cache
        self.device, self.dtype = torch.device(settings.device), COMPUTE_DTYPES[settings.precision]
        size = self.size
        self.run = TrainingSettings(
            mixed_precision=settings.precision,
            model=ModelSettings(svd="random weights", unet=size.unet),
            data=DataSettings(clips=settings.clips, frames=size.frames, height=size.height, width=size.width),
        )
        self.preprocess = ClipPreprocessing.of(self.run)
        scenes = SceneDataset(
            "train", length=settings.clips, frames=self.size.frames, height=self.size.height, width=self.size.width,
            with_rgb=True, seed=0,
        )  # fmt: skip
        self.clips: list[AmodalSample] = [scenes[index] for index in range(settings.clips)]
        self.unet = build_unet(self.size.unet, seed=0).train().to(self.device)
        self.parameters = prepare_unet(self.unet, self.run)
        self.optimizer = make_optimizer(self.parameters, self.run.optimizer)

    @cached_property
    def vae(self) -> AutoencoderKLTemporalDecoder:
        """With the same random weights in every process, so that each finds the clips that another has encoded."""
        torch.manual_seed(0)
        levels = len(self.size.vae)
        vae = AutoencoderKLTemporalDecoder(
            block_out_channels=self.size.vae, down_block_types=("DownEncoderBlock2D",) * levels, layers_per_block=2
        )
        return vae.eval().requires_grad_(requires_grad=False).to(self.device)

    @cached_property
    def image_encoder(self) -> CLIPVisionModelWithProjection:
        """With random weights."""
        tokens = self.size.unet.cross_attention_dim
        return build_image_encoder(self.size.image_encoder, tokens=tokens).to(self.device)

    @cached_property
    def depth(self) -> DepthEstimator:
        """Depth Anything in its small configuration, with random weights."""
        backbone = Dinov2Config(
            image_size=518, hidden_size=384, num_attention_heads=6, apply_layernorm=True, reshape_hidden_states=False,
            out_indices=[3, 6, 9, 12],
        )  # fmt: skip
        network = DepthAnythingForDepthEstimation(DepthAnythingConfig(backbone_config=backbone)).to(self.device)
        side = {"height": self.size.depth, "width": self.size.depth}
        return DepthEstimator(network, DPTImageProcessorPil(size=side, keep_aspect_ratio=False))

    @cached_property
    def components(self) -> StageComponents:
        """The networks of the stage."""
        return StageComponents(
            self.unet, self.vae, self.image_encoder, build_scheduler(), CheckpointSettings("amodal_segmentation")
        )

    @cached_property
    def encoded(self) -> EncodedScenes:
        """The encoded clips in the cache."""
        return EncodedScenes(self.run, TensorCache(self.cache), self.components)

    @cached_property
    def latents(self) -> LatentCache:
        """The cache of target latents and tokens, as of tracks."""
        return LatentCache(
            TensorCache(self.cache), vae=self.vae, image_encoder=self.image_encoder, precision=self.run.mixed_precision
        )

    def fill_cache(self) -> None:
        """Encode the clips as train/precompute.py does, as tracks and as generated scenes."""
        for index, clip in enumerate(self.clips):
            batch = self.preprocess(clip).to(self.device)
            entries = [self.latents.latents_entry(batch.amodal[0]), self.latents.tokens_entry(batch.modal[0])]
            with torch.no_grad(), self._autocast():
                for entry in (*entries, *self._depth_entries(clip), self.encoded.entry(index, self.components)):
                    self.latents.storage.fill(entry)

    def step(self, way: Way, count: int) -> None:
        """Take one optimizer step."""
        generators = [seeded_generator("training", 0, count, device=self.device)]
        with self._autocast():
            batch = self._batch(way, count)
            loss = training_loss(
                self.unet, batch, noise=self.run.noise, conditioning_dropout=0.1, generators=generators
            )
        loss.backward()
        if way.startswith("ours"):
            nn.utils.clip_grad_norm_(self.parameters, self.run.optimizer.max_grad_norm)
        self.optimizer.step()
        self.optimizer.zero_grad()
        wait_for(self.device)

    def traffic(self, way: Way, activations: int) -> int:
        """Bytes that a step moves at least: weights once a pass, what backward needs out and in, the optimizer."""
        encodes = {"reference": 3 + UNREAD_ENCODES, "ours": 3}[way.partition("-")[0]]
        frozen = encodes * _bytes_of(self.vae.encoder) + _bytes_of(self.image_encoder)
        if way == "ours-cached":
            frozen = 2 * _bytes_of(self.vae.encoder)
        elif way == "ours-encoded":
            frozen = 0
        depth = _bytes_of(self.depth._network) if way in ("reference", "ours") else 0
        trained = sum(parameter.nbytes for parameter in self.parameters)
        # Gradients out and in; weights and two moments in and out.
        return 2 * _bytes_of(self.unet) + frozen + depth + 2 * activations + (2 + 6) * trained

    def _batch(self, way: Way, count: int) -> LatentBatch:
        index = count % len(self.clips)
        if way == "ours-encoded":
            return self.encoded[index].to(self.device)
        clip = self.clips[index]
        if way in ("reference", "ours"):
            assert clip.rgb is not None
            clip = replace(clip, depth=self.depth(clip.rgb))
        if way == "ours-cached":
            frames = [self.latents.storage.get(entry).numpy() for entry in self._depth_entries(clip)]
            return self._encode(replace(clip, depth=np.stack(frames)), count, cache=self.latents)
        if way.startswith("reference"):
            self._encode_for_nothing(clip)
        return self._encode(clip, count)

    @torch.no_grad()
    def _encode_for_nothing(self, clip: AmodalSample) -> list[Tensor]:
        assert clip.rgb is not None
        return [encode_video(self.vae, to_unit(clip.rgb)[None].to(self.device)) for _ in range(UNREAD_ENCODES)]

    def _depth_entries(self, clip: AmodalSample) -> list[Entry]:
        """One a frame, under the name of the frame's content."""
        assert clip.rgb is not None
        assert clip.depth is not None
        frames = zip(clip.rgb, torch.from_numpy(clip.depth), strict=True)
        return [Entry(content_key("depth", {}, rgb.tobytes()), partial(torch.clone, depth)) for rgb, depth in frames]

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, dtype=self.dtype, enabled=self.dtype != torch.float32)

    def _encode(self, clip: AmodalSample, count: int, *, cache: LatentCache | None = None) -> LatentBatch:
        return encode_batch(
            self.preprocess(clip).to(self.device),
            vae=self.vae,
            image_encoder=self.image_encoder,
            noise=self.run.noise,
            generators=[seeded_generator("precompute", 0, count, device=self.device)],
            cache=cache,
        )


def measure(settings: Settings, cache: Path) -> None:
    """Take the steps in turn, measure the memory of each way, and print the table."""
    bench = Bench(settings, cache)
    bench.fill_cache()
    operations = {way: _operations(bench, way) for way in WAYS}  # the step that is not counted
    activations = _saved_activations(bench)
    seconds: dict[Way, list[float]] = {way: [] for way in WAYS}
    for count in range(settings.steps):
        for way, times in seconds.items():
            started = time.perf_counter()
            bench.step(way, count)
            times.append(time.perf_counter() - started)
    machine = measure_machine(bench.device, bench.dtype)
    medians = {way: median(times) for way, times in seconds.items()}
    _print_head(settings, bench, machine)
    for way, name in WAYS.items():
        floor = machine.floor(operations[way], bench.traffic(way, activations))
        print(
            f"{name:<36}{medians[way]:>9.3f}{medians['reference'] / medians[way]:>12.2f}"
            f"{medians['reference-depth-ready'] / medians[way]:>12.2f}{_peak_of(way, settings, cache) / GIB:>10.2f}"
            f"{operations[way] / 1e9:>10.0f}{bench.traffic(way, activations) / GIB:>8.2f}{floor:>9.3f}",
            flush=True,
        )
    for way, other, least in TARGETS:
        ratio = medians[other] / medians[way]
        print(f"{WAYS[way]}: {ratio:.2f} times the steps of `{WAYS[other]}`, wanted {least}", flush=True)


def _print_head(settings: Settings, bench: Bench, machine: Machine) -> None:
    size = bench.size
    print(
        f"size {settings.size}, {size.frames} frames {size.height}x{size.width}, precision {settings.precision}, "
        f"{settings.device}, {torch.get_num_threads()} threads; "
        f"at best {machine.operations / 1e9:.0f} GFLOP/s and {machine.bytes / GIB:.1f} GiB/s here"
    )
    print(
        f"{'median of ' + str(settings.steps) + ' steps':<36}{'seconds':>9}{'x reference':>12}{'x d. ready':>12}"
        f"{'peak GiB':>10}{'GFLOP':>10}{'GiB':>8}{'floor s':>9}"
    )


def _operations(bench: Bench, way: Way) -> int:
    with FlopCounterMode(display=False) as counter:
        bench.step(way, 0)
    return int(counter.get_total_flops())


def _saved_activations(bench: Bench) -> int:
    """Bytes that a forward pass keeps for its backward pass, weights aside."""
    own = {value.untyped_storage().data_ptr() for value in bench.unet.parameters()}
    kept: dict[int, int] = {}

    def note(value: Tensor) -> Tensor:
        storage = value.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes()
        return value

    with torch.autograd.graph.saved_tensors_hooks(note, lambda value: value):
        bench.step("ours-encoded", 0)
    return sum(kept.values())


def _peak_of(way: Way, settings: Settings, cache: Path) -> int:
    """Most memory of a process that takes two steps one way."""
    flags = [f"--{name}={value}" for name, value in asdict(settings).items() if value is not None]
    command = [sys.executable, __file__, *flags, f"--memory_of={way}", f"--cache={cache}"]
    printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return int(json.loads(printed.splitlines()[-1])["peak"])


def _bytes_of(network: nn.Module) -> int:
    return sum(value.nbytes for value in network.parameters())


if __name__ == "__main__":
    chosen = parse_settings(Settings, sys.argv[1:])
    if chosen.memory_of is not None and chosen.cache is not None:
        alone = Bench(chosen, chosen.cache)
        for place in range(2):
            alone.step(chosen.memory_of, place)
        print(json.dumps({"peak": peak_memory(alone.device)}))
    else:
        with tempfile.TemporaryDirectory() as folder:
            measure(chosen, Path(folder))
