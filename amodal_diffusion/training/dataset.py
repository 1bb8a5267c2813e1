"""Training and validation clips, preprocessed as in inference; only this module treats the two stages differently."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Literal, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from amodal_diffusion.config import SamplingConfig
from amodal_diffusion.data.composites import (
    ClipKind,
    CompositeDataset,
    CompositeOptions,
    MixedClips,
    PastedOccluders,
)
from amodal_diffusion.data.index import TrackIndex
from amodal_diffusion.data.occluders import OccludedTracks, OccluderBank, Occlusion
from amodal_diffusion.data.sailvos import SailVosDataset, read_frame
from amodal_diffusion.data.samples import AmodalSample, SceneCorruption, SceneDataset
from amodal_diffusion.frames.crop import Geometry, crop_centers, frame_geometry
from amodal_diffusion.frames.transforms import Stretch, depth_to_unit
from amodal_diffusion.pipelines.preprocessing import (
    FrameInput,
    preprocess_content,
    preprocess_mask,
    preprocess_on_white,
    preprocess_segmentation,
)
from amodal_diffusion.synthetic import Split
from amodal_diffusion.synthetic.composites.cutouts import CutoutSet
from amodal_diffusion.synthetic.composites.made import made_cutouts
from amodal_diffusion.synthetic.composites.tool_errors import ErrorShares
from amodal_diffusion.training.batches import Clips, PreparedClips
from amodal_diffusion.training.data_settings import DataSettings
from amodal_diffusion.training.settings import TrainingSettings
from amodal_diffusion.types import FloatArray, InputError, Stage, UInt8Array


@dataclass(frozen=True)
class TaskBatch:
    """Input and target videos of the networks: modal + guide -> amodal (docs/method.md, section 1).

    Attributes:
        modal: modal video, float32 ``[B, F, 1 or 3, H, W]`` in [-1, 1].
        guide: the second condition, shape and range as ``modal``; zero for clips without one.
        amodal: the target, shape and range as ``modal``.
        guide_present: whether each clip has a guide, bool ``[B]``; always on the CPU, where it is read.
        occlusions: the occlusion of each clip, if occluders were pasted over its object; else empty.
        samples: with a teacher, its sample of each clip, scaled latents ``[F, 4, h, w]`` to learn in place of those of
            the amodal video, or None; else empty.
    """

    modal: Tensor
    guide: Tensor
    amodal: Tensor
    guide_present: Tensor
    occlusions: tuple[Occlusion, ...] = ()
    samples: tuple[Tensor | None, ...] = ()

    def to(self, device: torch.device | str) -> TaskBatch:
        """Move the videos to a device."""
        return self._with_videos(lambda video: to_device(video, device))

    def pin_memory(self) -> TaskBatch:
        """A copy in memory from which a GPU reads on its own; a `DataLoader` calls this."""
        return self._with_videos(Tensor.pin_memory)

    def _with_videos(self, change: Callable[[Tensor], Tensor]) -> TaskBatch:
        return replace(self, modal=change(self.modal), guide=change(self.guide), amodal=change(self.amodal))


def to_device(value: Tensor, device: torch.device | str) -> Tensor:
    """Move a tensor; the host does not wait for a copy from pinned memory to a GPU."""
    return value.to(device, non_blocking=torch.device(device).type == "cuda")


@dataclass(frozen=True)
class FrameView:
    """One frame on disk, and the part of it that the network sees.

    Attributes:
        file: the picture.
        geometry: maps the frame to the network's size.
        read: reads the frame, uint8 ``[H, W, 3]``.
    """

    file: Path
    geometry: Geometry
    read: Callable[[], UInt8Array]


class ClipDepth(Protocol):
    """Estimates the depth of a clip's frames at the size of the network's input."""

    def __call__(self, views: Sequence[FrameView]) -> FloatArray:
        """Depth of any scale, nearer is larger, float32 ``[F, h, w]``."""
        ...


@dataclass(frozen=True)
class ClipPreprocessing:
    """Turns a clip into the inputs and the target of one stage.

    Attributes:
        stage: the stage that is trained.
        config: geometry and temporal mask prior; its height, width and window are those of training.
        depth: estimates the depth of clips that come without, in stage 1; None leaves them without.
    """

    stage: Stage
    config: SamplingConfig
    depth: ClipDepth | None = None

    @classmethod
    def of(cls, settings: TrainingSettings, depth: ClipDepth | None = None) -> ClipPreprocessing:
        """Preprocessing of the sampling settings, at the training size.

        Stretched frames of an annotation file are resized without antialiasing, as in the reference implementation.
        """
        data = settings.data
        config = replace(settings.sampling, height=data.height, width=data.width, num_frames=data.frames)
        if data.annotations is not None and config.fit == "stretch":
            config = replace(config, resample="cv2")
        return cls(settings.stage, config, depth)

    @property
    def needs_rgb(self) -> bool:
        """Whether clips must come with RGB."""
        return self.stage == "content_completion" or self.config.beyond.temporal_prior

    def frames(self, sample: AmodalSample) -> list[FrameInput]:
        """Frames of a clip as input to the pipelines, without RGB in black, and with depth for stage 1 alone.

        Raises:
            InputError: if the clip lacks RGB that the stage needs, or an object to crop around.
        """
        if self.needs_rgb and sample.rgb is None:
            raise InputError(f"{sample.name}: {self.stage} needs rgb, got a clip without; load it with RGB")
        black = np.broadcast_to(np.uint8(0), (*sample.modal.shape[1:], 3))
        depth = sample.depth if self.stage == "amodal_segmentation" else None
        scaled = None if depth is None else depth_to_unit(depth)[:, 0].numpy()
        centers = crop_centers(sample.modal) if self.config.fit == "crop" else [None] * len(sample.modal)
        return [
            FrameInput(
                rgb=black if sample.rgb is None else sample.rgb[index],
                modal=sample.modal[index],
                depth=None if scaled is None else scaled[index],
                center=centers[index],
            )
            for index in range(len(sample.modal))
        ]

    def __call__(self, sample: AmodalSample) -> TaskBatch:
        """Preprocess one clip to a batch of size one.

        Raises:
            InputError: if the clip lacks a part that the stage needs.
        """
        frames = self.frames(sample)
        geometries = [frame.geometry(self.config) for frame in frames]
        if self.stage == "amodal_segmentation":
            modal, guide = preprocess_segmentation(frames, self.config)
            if guide is None and self.depth is not None and sample.files:
                guide = depth_to_unit(self.depth(self.frame_views(sample)))
            target = [preprocess_mask(mask, part) for mask, part in zip(sample.amodal, geometries, strict=True)]
        else:
            if sample.whole_rgb is None:
                raise InputError(f"{sample.name}: content completion needs the whole object's RGB, got a clip without")
            modal, guide = preprocess_content(frames, list(sample.amodal), self.config)
            whole = zip(sample.whole_rgb, sample.amodal, geometries, strict=True)
            target = [preprocess_on_white(rgb, mask, part) for rgb, mask, part in whole]
        return TaskBatch(
            modal=modal[None],
            guide=(torch.zeros_like(modal) if guide is None else guide)[None],
            amodal=torch.cat(target)[None],
            guide_present=torch.tensor([guide is not None]),
        )

    def frame_views(self, sample: AmodalSample) -> list[FrameView]:
        """The frames of a clip on disk, framed as the network sees them; nothing is read yet."""
        size = (sample.modal.shape[1], sample.modal.shape[2])
        centers = crop_centers(sample.modal) if self.config.fit == "crop" else [None] * len(sample.modal)
        return [
            FrameView(file, frame_geometry(self.config, size, center), partial(read_frame, file, size))
            for file, center in zip(_present(sample), centers, strict=True)
        ]

    def whole_frame_views(self, sample: AmodalSample) -> list[FrameView]:
        """The whole frames of a clip on disk, stretched to the network's size: stage 2 estimates depth on them."""
        size = (sample.modal.shape[1], sample.modal.shape[2])
        whole = Stretch(size, (self.config.height, self.config.width))
        return [FrameView(file, whole, partial(read_frame, file, size)) for file in _present(sample)]


def _present(sample: AmodalSample) -> tuple[Path, ...]:
    """Image files of a clip's frames.

    Raises:
        InputError: if a file is missing.
    """
    for file in sample.files:
        if not file.is_file():
            raise InputError(f"{sample.name}: {file}: no such file, and none of the same name in another format")
    return sample.files


def join(batches: Sequence[TaskBatch]) -> TaskBatch:
    """Concatenate batches of clips of the same size."""
    return TaskBatch(
        modal=torch.cat([batch.modal for batch in batches]),
        guide=torch.cat([batch.guide for batch in batches]),
        amodal=torch.cat([batch.amodal for batch in batches]),
        guide_present=torch.cat([batch.guide_present for batch in batches]),
        occlusions=tuple(itertools.chain.from_iterable(batch.occlusions for batch in batches)),
        samples=tuple(itertools.chain.from_iterable(batch.samples for batch in batches)),
    )


ReadSample = Callable[[TaskBatch], Tensor | None]
"""Reads the teacher's sample of a clip, a batch of one; None if the clip keeps its true target."""


class TaskClips(Dataset[TaskBatch]):
    """Clips preprocessed for a stage, each as a batch of size one.

    Args:
        samples: the clips.
        preprocess: preprocessing of the stage.
        teach: reads the teacher's sample of a clip; None for runs without a teacher.
    """

    def __init__(
        self, samples: Clips[AmodalSample], preprocess: ClipPreprocessing, teach: ReadSample | None = None
    ) -> None:
        self.samples = samples
        self.preprocess = preprocess
        self._teach = teach

    def __len__(self) -> int:
        """Number of clips."""
        return len(self.samples)

    def __getitem__(self, index: int) -> TaskBatch:
        """Read and preprocess one clip.

        Raises:
            InputError: if it cannot be read, or lacks its sample of the teacher.
        """
        clip = self.preprocess(self.samples[index])
        return clip if self._teach is None else replace(clip, samples=(self._teach(clip),))

    def read(self, index: int) -> AmodalSample:
        """Read one clip at full size; missing depth is estimated at the network's size and resized to the frames."""
        sample = self.samples[index]
        depth = self.preprocess.depth
        if depth is None or not sample.files or sample.depth is not None:
            return sample
        views = self.preprocess.whole_frame_views(sample)
        maps = torch.from_numpy(depth(views))[:, None]  # [F, 1, h, w]
        return replace(sample, depth=views[0].geometry.invert(maps, outside=0.0)[:, 0].numpy())

    def prepare(self, indices: Sequence[int]) -> None:
        """Make clips all at once where that is faster, see `PreparedClips`."""
        if isinstance(self.samples, PreparedClips):
            self.samples.prepare(indices)

    def draw(self, index: int, *, generator: torch.Generator) -> TaskBatch:
        """Read and preprocess one clip; the generator draws the occluders, if any are pasted over its object."""
        if not isinstance(self.samples, OccludedTracks):
            return self[index]
        drawn = self.samples.draw(index, generator=generator)
        return replace(self.preprocess(drawn.sample), occlusions=(drawn.occlusion,))

    def name(self, index: int) -> str:
        """Name of a clip, which is not read."""
        return self.samples.name(index)


def training_clips(
    settings: TrainingSettings, *, depth: ClipDepth | None = None, teach: ReadSample | None = None
) -> TaskClips:
    """Training clips: the tracks of the annotation file, or generated scenes of the training split, or composites.

    Args:
        settings: resolved training settings.
        depth: estimates the depth of tracks.
        teach: reads the teacher's samples of tracks.

    Raises:
        InputError: if a file cannot be used.
    """
    preprocess, data = ClipPreprocessing.of(settings, depth), settings.data
    if data.composites.folder is not None:
        device = "cpu"
        if torch.accelerator.is_available() and not settings.cpu and data.workers == 0:
            device = str(torch.accelerator.current_accelerator())
        return TaskClips(composites(data, preprocess, split="train", length=data.clips, device=device), preprocess)
    if data.annotations is None:
        return TaskClips(scenes(data, preprocess, split="train", length=data.clips), preprocess)
    return TaskClips(tracks(data, preprocess, data.annotations, data.images), preprocess, teach)


def validation_clips(
    settings: TrainingSettings, *, depth: ClipDepth | None = None, depthless: bool = False
) -> TaskClips:
    """The clips of a run's validation, of the kinds of training; masks and depth have no errors.

    Args:
        settings: resolved training settings.
        depth: estimates the depth of tracks.
        depthless: leave out the depth of all clips.

    Raises:
        InputError: if a file cannot be used.
    """
    preprocess = ClipPreprocessing.of(settings, None if depthless else depth)
    data, length = settings.data, settings.validation.clips
    if data.composites.folder is None and data.validation_annotations is not None:
        annotations, images = data.validation_annotations, data.validation_images
        return TaskClips(tracks(data, preprocess, annotations, images, limit=length), preprocess)
    exact = replace(data, seed=0, degraded_share=0.0, depthless_share=float(depthless))
    if data.composites.folder is not None:
        return TaskClips(composites(exact, preprocess, split="validation", length=length), preprocess)
    return TaskClips(scenes(exact, preprocess, split="validation", length=length), preprocess)


def composites(
    settings: DataSettings,
    preprocess: ClipPreprocessing,
    *,
    split: Literal["train", "validation"],
    length: int,
    device: str = "cpu",
) -> ClipKind | MixedClips:
    """Composites, alone or mixed with pasted cut-outs, scenes or tracks in the shares of the settings.

    Args:
        settings: shares, sizes and files.
        preprocess: preprocessing of the stage.
        split: of cut-outs and scenes; ``validation`` has no errors of tools and takes the validation tracks.
        length: number of clips.
        device: where composites are made.

    Raises:
        InputError: if a file or the folder of cut-outs cannot be used.
    """
    given, cropped, training = settings.composites, preprocess.config.fit == "crop", split == "train"
    if given.folder is None:
        raise InputError("data.composites.folder: expected a folder of cut-outs, got none")
    seed = given.seed if training else 0
    errors = ErrorShares(given.mask_errors, given.depth_errors) if training else ErrorShares()
    annotations, images = settings.annotations, settings.images
    if not training:
        annotations, images = settings.validation_annotations, settings.validation_images
    parts: list[tuple[float, ClipKind]] = []
    if given.share > 0.0:
        size = (given.height, given.width) if cropped else (settings.height, settings.width)
        options = CompositeOptions(errors, settings.depthless_share, given.made, device)
        made = CompositeDataset(given.folder, length, settings.frames, *size, seed, split, options=options)
        parts.append((given.share, made))
    if given.pasted_share > 0.0 and annotations is not None:
        targets = SailVosDataset(
            annotations, images, frames=settings.frames, with_rgb=True, index_folder=settings.index_folder
        )
        cutouts = CutoutSet.read(given.folder, split).joined(made_cutouts(split, given.made))
        pasted = PastedOccluders(targets, cutouts, seed=seed, split=split, length=length, errors=errors)
        parts.append((given.pasted_share, pasted))
    if settings.plain_share > 0.0:
        plain: ClipKind
        if annotations is None:
            plain = scenes(settings, preprocess, split=split, length=length)
        else:
            plain = tracks(settings, preprocess, annotations, images)
        parts.append((settings.plain_share, plain))
    return parts[0][1] if len(parts) == 1 else MixedClips(parts, length, seed=seed)


def scenes(settings: DataSettings, preprocess: ClipPreprocessing, *, split: Split, length: int) -> SceneDataset:
    """Generated scenes of a split, at the training size, or at the scene size if crops are cut from them."""
    cropped = preprocess.config.fit == "crop"
    return SceneDataset(
        split,
        length=length,
        frames=settings.frames,
        height=settings.scene_height if cropped else settings.height,
        width=settings.scene_width if cropped else settings.width,
        with_rgb=preprocess.needs_rgb,
        seed=settings.seed,
        change=SceneCorruption(settings.degraded_share, settings.depthless_share),
    )


def tracks(
    settings: DataSettings,
    preprocess: ClipPreprocessing,
    annotations: Path,
    images: Path | None,
    *,
    limit: int | None = None,
) -> SailVosDataset | OccludedTracks:
    """Tracks of an annotation file, with occluders pasted over the objects if the settings name any.

    Args:
        settings: number of frames of a clip, and the occluders.
        preprocess: preprocessing of the stage, which determines whether frames are read.
        annotations: annotation file.
        images: root of its frames; None for the folder of the annotation file.
        limit: largest number of tracks; None for all.

    Raises:
        InputError: if a file cannot be used.
    """
    dataset = SailVosDataset(
        annotations,
        images,
        frames=settings.frames,
        with_rgb=preprocess.needs_rgb,
        index_folder=settings.index_folder,
        limit=limit,
    )
    occluders = settings.occluders
    if occluders.annotations is None:
        return dataset
    index = TrackIndex(occluders.annotations, folder=settings.index_folder)
    return OccludedTracks(dataset, OccluderBank(index, occlusion=occluders.occlusion, tries=occluders.tries))
