"""Selection of a run's clips: tracks of annotation files or shards, generated scenes, composites, or mixtures."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import torch

from amodal_diffusion.basics import InputError
from amodal_diffusion.data.composites import (
    ClipKind,
    CompositeDataset,
    CompositeOptions,
    MixedClips,
    PastedOccluders,
)
from amodal_diffusion.data.index import TrackIndex
from amodal_diffusion.data.occluders import OccludedTracks, OccluderBank
from amodal_diffusion.data.sailvos import SailVosDataset
from amodal_diffusion.data.samples import SceneCorruption, SceneDataset
from amodal_diffusion.data.shards import ShardDataset
from amodal_diffusion.synthetic import Split
from amodal_diffusion.synthetic.composites.cutouts import CutoutSet
from amodal_diffusion.synthetic.composites.made import made_cutouts
from amodal_diffusion.synthetic.composites.tool_errors import ErrorShares
from amodal_diffusion.training.data_settings import DatasetSettings, DataSettings
from amodal_diffusion.training.dataset import ClipDepth, ClipPreprocessing, MixedSources, ReadSample, TaskClips
from amodal_diffusion.training.settings import TrainingSettings


def training_clips(
    settings: TrainingSettings, *, depth: ClipDepth | None = None, teach: ReadSample | None = None
) -> TaskClips:
    """Training clips: recorded ones, or generated scenes of the training split, or composites.

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
    if not data.sources:
        return TaskClips(scenes(data, preprocess, split="train", length=data.clips), preprocess)
    parts = [(source.weight, tracks(data, preprocess, source)) for source in data.sources]
    return TaskClips(parts[0][1] if len(parts) == 1 else MixedSources(parts), preprocess, teach)


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
    if data.composites.folder is None and data.validation_source is not None:
        return TaskClips(tracks(data, preprocess, data.validation_source, limit=length), preprocess)
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
    source = next(iter(settings.sources), None) if training else settings.validation_source
    parts: list[tuple[float, ClipKind]] = []
    if given.share > 0.0:
        size = (given.height, given.width) if cropped else (settings.height, settings.width)
        options = CompositeOptions(errors, settings.depthless_share, given.made, device)
        made = CompositeDataset(given.folder, length, settings.frames, *size, seed, split, options=options)
        parts.append((given.share, made))
    if given.pasted_share > 0.0 and source is not None:
        targets = _open(settings, source, with_rgb=True)
        cutouts = CutoutSet.read(given.folder, split).joined(made_cutouts(split, given.made))
        pasted = PastedOccluders(targets, cutouts, seed=seed, split=split, length=length, errors=errors)
        parts.append((given.pasted_share, pasted))
    if settings.plain_share > 0.0:
        plain: ClipKind
        if source is None:
            plain = scenes(settings, preprocess, split=split, length=length)
        else:
            plain = tracks(settings, preprocess, source)
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
    settings: DataSettings, preprocess: ClipPreprocessing, source: DatasetSettings, *, limit: int | None = None
) -> SailVosDataset | ShardDataset | OccludedTracks:
    """Recorded clips, with occluders pasted over the objects if the settings name any.

    Args:
        settings: number of frames of a clip, and the occluders.
        preprocess: preprocessing of the stage, which determines whether frames are read.
        source: annotation file or shards. Occluders are left out if shards have the colors of whole objects.
        limit: largest number of tracks; None for all.

    Raises:
        InputError: if a file cannot be used.
    """
    dataset = _open(settings, source, with_rgb=preprocess.needs_rgb, limit=limit)
    occluders = settings.occluders
    if occluders.annotations is None or (isinstance(dataset, ShardDataset) and dataset.shards.header.whole):
        return dataset
    index = TrackIndex(occluders.annotations, folder=settings.index_folder)
    return OccludedTracks(dataset, OccluderBank(index, occlusion=occluders.occlusion, tries=occluders.tries))


def _open(
    settings: DataSettings, source: DatasetSettings, *, with_rgb: bool, limit: int | None = None
) -> SailVosDataset | ShardDataset:
    if source.shards is not None:
        return ShardDataset(source.shards, frames=settings.frames, with_rgb=with_rgb, limit=limit)
    if source.annotations is None:
        raise RuntimeError("source: expected shards or annotations, which DatasetSettings checks")
    return SailVosDataset(
        source.annotations,
        source.images,
        frames=settings.frames,
        with_rgb=with_rgb,
        index_folder=settings.index_folder,
        limit=limit,
    )
