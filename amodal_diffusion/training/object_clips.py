"""Clips of objects with their amodal masks for C2F-Seg, S-AModal and SAMEO: from files, or generated."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from torch.utils.data import Dataset

from amodal_diffusion.basics import InputError
from amodal_diffusion.data.amodal_images import AmodalImageIndex
from amodal_diffusion.data.sailvos import SailVosDataset, read_frame
from amodal_diffusion.data.samples import AmodalSample, SceneCorruption, SceneDataset
from amodal_diffusion.data.shards import ShardDataset
from amodal_diffusion.training.batches import Clips


@dataclass(frozen=True)
class SceneSettings:
    """Generated scenes, for a run without an annotation file.

    Attributes:
        index_folder: folder for the index of an annotation file; by default next to the file.
        clips: number of generated scenes.
        frames: number of frames of a scene or track.
        height: height in pixels of generated scenes.
        width: width in pixels of generated scenes.
        seed: random seed of the generated scenes; different seeds share no scene.
        degraded_share: share of the generated scenes with corrupted modal masks.
        workers: number of processes that prefetch clips; 0 loads clips in the training process.
    """

    index_folder: Path | None = None
    clips: int = 20_000
    frames: int = 8
    height: int = 64
    width: int = 128
    seed: int = 0
    degraded_share: float = 0.0
    workers: int = 0

    def __post_init__(self) -> None:
        """Check the number of frames.

        Raises:
            InputError: if it is below 1.
        """
        if self.frames < 1:
            raise InputError(f"data.frames: expected at least 1, got {self.frames}")


@dataclass(frozen=True)
class FileSettings(SceneSettings):
    """Tracks of a SAIL-VOS file, objects of a KINS or COCOA file, shards, or generated scenes without any of them.

    Attributes:
        annotations: annotation file with tracks, in the layout of SAIL-VOS sequences.
        amodal_images: annotation file in the layout of KINS or COCOA, whose objects are clips of one frame.
        images: root of the frames of either; by default the folder of the file.
        shards: folder or URL of shards, in place of a file.
    """

    annotations: Path | None = None
    amodal_images: Path | None = None
    images: Path | None = None
    shards: str | None = None

    def __post_init__(self) -> None:
        """Check that the sources do not contradict each other.

        Raises:
            InputError: if two of them are given.
        """
        super().__post_init__()
        given = [name for name in ("annotations", "amodal_images", "shards") if getattr(self, name) is not None]
        if len(given) > 1:
            raise InputError(f"data.{given[0]}, data.{given[1]}: both are given; a run trains on one of them")


class AmodalImages(Dataset[AmodalSample]):
    """Objects of an annotation file in the layout of KINS or COCOA, as clips of one frame.

    Args:
        annotations: the file.
        images: root of the images; the file's folder by default.
        index_folder: folder for the file's index; the file's own by default.
    """

    def __init__(self, annotations: Path, images: Path | None = None, *, index_folder: Path | None = None) -> None:
        self.index = AmodalImageIndex(annotations, folder=index_folder)
        self.images = annotations.parent if images is None else images

    def __len__(self) -> int:
        """Number of objects."""
        return len(self.index)

    def name(self, index: int) -> str:
        """Name of an object: the annotation file and its place there."""
        return f"{self.index.annotations}: object {index}"

    def __getitem__(self, index: int) -> AmodalSample:
        """Read an object and its image.

        Raises:
            InputError: if a mask is invalid, or the image cannot be read or has another size.
        """
        found = self.index.object(index)
        path = self.images / found.image_file_name
        rgb = read_frame(path, found.size)[None]
        amodal = (found.amodal | found.modal)[None]
        return AmodalSample(self.name(index), found.modal[None], amodal, None, rgb, None, (path,))


def object_clips(data: FileSettings, *, with_rgb: bool, read_tracks: bool = True) -> Clips[AmodalSample]:
    """Clips of the file that the settings name, or generated scenes of the training split.

    Args:
        data: where the clips come from.
        with_rgb: whether the samples have frames.
        read_tracks: read the frames of tracks and shards too; otherwise their samples have the files alone.

    Raises:
        InputError: if a file cannot be used.
    """
    folder = data.index_folder
    if data.amodal_images is not None:
        return AmodalImages(data.amodal_images, data.images, index_folder=folder)
    if data.annotations is not None:
        rgb = with_rgb and read_tracks
        return SailVosDataset(data.annotations, data.images, frames=data.frames, with_rgb=rgb, index_folder=folder)
    if data.shards is not None:
        return ShardDataset(data.shards, frames=data.frames, with_rgb=with_rgb and read_tracks)
    return training_scenes(data, with_rgb=with_rgb)


def training_scenes(data: SceneSettings, *, with_rgb: bool) -> SceneDataset:
    """Generated scenes of the training split."""
    return SceneDataset(
        "train",
        length=data.clips,
        frames=data.frames,
        height=data.height,
        width=data.width,
        with_rgb=with_rgb,
        seed=data.seed,
        change=SceneCorruption(data.degraded_share),
    )
