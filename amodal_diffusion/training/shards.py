"""Storage of encoded clips: shards of float16 tensors in safetensors files, read one clip at a time.

A folder holds `settings.json`, which says of what the latents were made, and one file a shard. A shard is written
beside and renamed, so that a file without the ending `.partial` is complete.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import MISSING, asdict, dataclass, fields
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import nn
from torch.utils.data import Dataset

from amodal_diffusion.io.atomic import replacing_file, write_text
from amodal_diffusion.models.hub import StageComponents
from amodal_diffusion.propagation.mask_prior import MOTION_VERSION
from amodal_diffusion.synthetic.catalogue import TRAIN_VERSION
from amodal_diffusion.training.latents import LatentBatch
from amodal_diffusion.training.settings import Precision, TrainingSettings
from amodal_diffusion.types import InputError, Stage

SETTINGS_FILE = "settings.json"


@dataclass(frozen=True)
class LatentSettings:
    """All that encoded clips depend on, except which clip it is.

    Attributes:
        stage: decides what is modal, guide and target.
        frames: of a clip.
        height: in pixels.
        width: in pixels.
        zoom: scale of the crops; None for whole frames. The name is that of folders that version 0.1 wrote.
        scene_height: of the scenes that crops are cut from, in pixels.
        scene_width: likewise.
        scene_seed: of the generated scenes.
        noise_seed: of the condition noise.
        condition_log_mean: of the condition noise.
        condition_log_std: of the condition noise.
        precision: of the networks' computations.
        vae: digest of the autoencoder's weights and settings.
        image_encoder: digest of the image encoder's weights and settings.
        degraded_share: of the scenes; 0 also in folders that do not say, which are older than this.
        depthless_share: likewise.
        other_frames: whether visible masks have in grey what other frames show; not in folders that do not say.
        following: version of how an object is followed for that; 0 without it and in folders that do not say.
        scenes: version of the training split's scenes; 1 in folders that do not say.
    """

    stage: Stage
    frames: int
    height: int
    width: int
    zoom: float | None
    scene_height: int
    scene_width: int
    scene_seed: int
    noise_seed: int
    condition_log_mean: float
    condition_log_std: float
    precision: Precision
    vae: str
    image_encoder: str
    degraded_share: float = 0.0
    depthless_share: float = 0.0
    other_frames: bool = False
    following: int = 0
    scenes: int = 1

    @classmethod
    def of(cls, settings: TrainingSettings, components: StageComponents) -> LatentSettings:
        """What a run's latents depend on."""
        data, noise = settings.data, settings.noise
        return cls(
            stage=settings.stage,
            frames=data.frames,
            height=data.height,
            width=data.width,
            zoom=settings.sampling.beyond.crop_scale if settings.sampling.fit == "crop" else None,
            scene_height=data.scene_height,
            scene_width=data.scene_width,
            scene_seed=data.seed,
            noise_seed=settings.seed,
            condition_log_mean=noise.condition_log_mean,
            condition_log_std=noise.condition_log_std,
            precision=settings.mixed_precision,
            vae=digest(components.vae),
            image_encoder=digest(components.image_encoder),
            degraded_share=data.degraded_share,
            depthless_share=data.depthless_share,
            other_frames=settings.sampling.beyond.temporal_prior,
            following=MOTION_VERSION if settings.sampling.beyond.temporal_prior else 0,
            scenes=TRAIN_VERSION,
        )


def digest(network: nn.Module) -> str:
    """SHA-256 of a network's weights, by name, and of its ``scaling_factor`` if it has one; 16 hex digits."""
    result = hashlib.sha256()
    result.update(str(getattr(network.config, "scaling_factor", None)).encode())
    for name, value in sorted(network.state_dict().items()):
        result.update(name.encode())
        result.update(value.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes())
    return result.hexdigest()[:16]


class LatentShards(Dataset[LatentBatch]):
    """Encoded clips in a folder, each read as a batch of one.

    Args:
        folder: that :func:`write_shard` has filled.
        settings: that the latents must have been made with.
        length: number of clips wanted.

    Raises:
        InputError: if they were made with other settings or there are fewer clips.
    """

    def __init__(self, folder: Path, settings: LatentSettings, *, length: int) -> None:
        shard_size = check_folder(folder, settings)
        missing = [
            index for index in range(0, length, shard_size) if not shard_path(folder, index // shard_size).is_file()
        ]
        if missing:
            raise InputError(
                f"data.latents: {folder} lacks {len(missing)} shards for {length} clips, the first of them "
                f"{shard_path(folder, missing[0] // shard_size).name}; run train/precompute.py --count {length}"
            )
        self.folder = folder
        self.length = length
        self.shard_size = shard_size

    def __len__(self) -> int:
        """Number of clips."""
        return self.length

    def name(self, index: int) -> str:
        """Where a clip is stored."""
        shard, row = divmod(index, self.shard_size)
        return f"{shard_path(self.folder, shard)}, clip {row}"

    def __getitem__(self, index: int) -> LatentBatch:
        """Read one clip, float16."""
        shard, row = divmod(index, self.shard_size)
        with safe_open(shard_path(self.folder, shard), framework="pt") as file:
            return LatentBatch(
                **{entry.name: file.get_slice(entry.name)[row : row + 1] for entry in fields(LatentBatch)}
            )


def shard_path(folder: Path, shard: int) -> Path:
    """File of a shard."""
    return folder / f"{shard:06d}.safetensors"


def disk_use(folder: Path) -> int:
    """Bytes of all shards of a folder, which need not exist."""
    return sum(path.stat().st_size for path in folder.glob("*.safetensors"))


def is_intact(path: Path, *, clips: int) -> bool:
    """Whether a shard can be read and holds numbers for so many clips."""
    try:
        tensors = load_file(path)
    except (SafetensorError, OSError):
        return False
    names = {entry.name for entry in fields(LatentBatch)}
    return set(tensors) == names and all(
        len(value) == clips and bool(value.isfinite().all()) for value in tensors.values()
    )


def write_shard(folder: Path, shard: int, batch: LatentBatch) -> None:
    """Write a shard, whole or not at all.

    Args:
        folder: that :func:`open_folder` has made.
        shard: its number.
        batch: its clips.
    """
    path = shard_path(folder, shard)
    halves = batch.to("cpu", torch.float16)
    with replacing_file(path) as partial:
        save_file({entry.name: getattr(halves, entry.name).contiguous() for entry in fields(halves)}, partial)


def open_folder(folder: Path, settings: LatentSettings, *, shard_size: int) -> None:
    """Make a folder for shards, or check that one that is there was made with the same settings.

    Raises:
        InputError: if it was made with others.
    """
    path = folder / SETTINGS_FILE
    if path.is_file():
        if check_folder(folder, settings) != shard_size:
            raise InputError(f"shard_size: {folder} has shards of another size; give the same, or another folder")
        return
    folder.mkdir(parents=True, exist_ok=True)
    write_text(path, json.dumps({"shard_size": shard_size, **asdict(settings)}, indent=2))


def check_folder(folder: Path, settings: LatentSettings) -> int:
    """Check what the latents in a folder were made with.

    Returns:
        clips of a shard.

    Raises:
        InputError: names each difference.
    """
    path = folder / SETTINGS_FILE
    if not path.is_file():
        raise InputError(f"data.latents: {folder} has no {SETTINGS_FILE}; fill it with train/precompute.py")
    defaults = {entry.name: entry.default for entry in fields(LatentSettings) if entry.default is not MISSING}
    stored = {**defaults, **json.loads(path.read_text(encoding="utf-8"))}
    wanted = asdict(settings)
    different = [
        f"{name} {stored.get(name)} instead of {value}" for name, value in wanted.items() if stored.get(name) != value
    ]
    if different:
        raise InputError(
            f"data.latents: {folder} was made with other settings or networks: {'; '.join(different)}; "
            "fill another folder"
        )
    return int(stored["shard_size"])
