"""Data sets that can be written as shards, opened by what a user names: an annotation file, a folder, or settings."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from amodal_diffusion.basics import InputError
from amodal_diffusion.data.folder_source import FolderNames, folder_objects
from amodal_diffusion.data.index import EntryIndex
from amodal_diffusion.data.prepare import ClipSettings, prepare
from amodal_diffusion.data.records import TrackRecord, parse_record
from amodal_diffusion.data.sailvos import frame_file, read_depth_picture
from amodal_diffusion.data.samples import AmodalSample
from amodal_diffusion.data.scene_export import ANNOTATIONS
from amodal_diffusion.data.shard_members import ShardSample
from amodal_diffusion.data.shard_writer import ShardSource
from amodal_diffusion.data.shards import SourceKind
from amodal_diffusion.data.tao_amodal import parse_tao_record
from amodal_diffusion.io.images import list_pictures
from amodal_diffusion.io.json_files import first_character
from amodal_diffusion.io.numpy_files import load_arrays
from amodal_diffusion.io.pictures import read_frames
from amodal_diffusion.parsing import load_settings
from amodal_diffusion.training.batches import Clips
from amodal_diffusion.training.clip_sources import composites, scenes
from amodal_diffusion.training.dataset import ClipPreprocessing
from amodal_diffusion.training.object_clips import AmodalImages
from amodal_diffusion.training.settings import TrainingSettings
from amodal_diffusion.types import FloatArray

BESIDE = "clips"
"""Value of ``--depth`` for depth that lies beside each clip's frames."""
_SETTINGS = (".yaml", ".yml")

ReadDepth = Callable[[Sequence[str], tuple[int, int]], FloatArray]
"""Reads the depth of frames by their names in the annotation and their size, float32 ``[F, H, W]``."""


@dataclass(frozen=True)
class SourceOptions:
    """What belongs to a source.

    Attributes:
        images: root of the frames of an annotation file; its own folder by default.
        depth: root of depth pictures under the names of the frames, or `BESIDE`; None leaves depth out.
        frames: keep the first so many frames of a track; of a folder of clips, the length of the clips cut from it.
        index_folder: folder of the annotation file's index; its own by default.
    """

    images: Path | None = None
    depth: str | None = None
    frames: int | None = None
    index_folder: Path | None = None


@contextmanager
def open_source(source: Path, options: SourceOptions) -> Iterator[ShardSource]:
    """Open a data set.

    Args:
        source: an annotation file in the layout of SAIL-VOS sequences, of TAO-Amodal's curated tracks, or of KINS or
            COCOA; a folder with ``annotations.json``; a folder of clips, as ``prepare`` reads it; or a YAML file with
            the settings of a training run, whose clips are written as they are before preprocessing.
        options: what belongs to it.

    Raises:
        InputError: if it cannot be used.
    """
    if not source.exists():
        raise InputError(f"{source}: no such file or folder")
    if source.suffix.lower() in _SETTINGS:
        _refuse(options, "images", "depth", "frames", of="settings")
        yield _of_settings(source)
    elif source.is_file():
        yield _of_file(source, options)
    elif (source / ANNOTATIONS).is_file():
        yield _of_file(source / ANNOTATIONS, options)
    else:
        _refuse(options, "images", of="a folder of clips")
        with TemporaryDirectory() as work:
            yield _of_clips(source, options, Path(work))


def _refuse(options: SourceOptions, *names: str, of: str) -> None:
    for name in names:
        if getattr(options, name) is not None:
            raise InputError(f"--{name}: expected none for {of}, got {getattr(options, name)}; leave it out")


def _of_file(path: Path, options: SourceOptions) -> ShardSource:
    with path.open("rb") as file:
        is_object = first_character(file.read(4096)) == "{"
    if is_object:
        _refuse(options, "depth", "frames", of="images")
        images = AmodalImages(path, options.images, index_folder=options.index_folder)
        return SampleSource(images, "images", as_tracks=False)
    index = EntryIndex(path, folder=options.index_folder)
    entry = index.entry(0)
    root = path.parent if options.images is None else options.images
    depth = _open_depth(options.depth, root)
    if isinstance(entry, dict) and "rles" in entry:
        _refuse(options, "frames", of="tracks of TAO-Amodal")
        return EntrySource(index, "tao-amodal", _parse_boxes, images=root, depth=depth)
    return EntrySource(index, "tracks", partial(_parse_track, frames=options.frames), images=root, depth=depth)


def _of_clips(source: Path, options: SourceOptions, work: Path) -> ShardSource:
    """All clips of a folder that have the object in half of their frames, cut as ``prepare`` does."""
    clips = ClipSettings() if options.frames is None else ClipSettings(frames=options.frames)
    paths = {"annotations": work / ANNOTATIONS, "complete": work / "complete.json"}
    report = prepare(folder_objects(source, FolderNames()), clips, **paths)
    if not report.clips:
        raise InputError(f"{source}: not one clip of {report.tracks} tracks: {report.reasons()}")
    index, parse = EntryIndex(paths["annotations"], folder=work), partial(_parse_track, frames=None)
    return EntrySource(index, "tracks", parse, images=source, depth=_open_depth(options.depth, source))


def _of_settings(path: Path) -> ShardSource:
    settings = load_settings(TrainingSettings, path)
    data, length = settings.data, settings.data.clips
    if data.shards is not None or data.mixture:
        raise InputError(f"{path}: data.shards, data.mixture: expected clips that are not in shards yet")
    if data.composites.folder is None and data.annotations is not None:
        index, parse = EntryIndex(data.annotations, folder=data.index_folder), partial(_parse_track, frames=data.frames)
        root = data.annotations.parent if data.images is None else data.images
        return EntrySource(index, "tracks", parse, images=root)
    with_colors = ClipPreprocessing("content_completion", ClipPreprocessing.of(settings).config)
    clips: Clips[AmodalSample]
    if data.composites.folder is None:
        clips = scenes(data, with_colors, split="train", length=length)
    else:
        clips = composites(data, with_colors, split="train", length=length)
    return SampleSource(clips, "generated", as_tracks=data.annotations is not None)


@dataclass(frozen=True)
class _Entry:
    """An entry of an annotation file, checked: its JSON, the names of its frames, and their height and width."""

    record: Mapping[str, Any]
    names: Sequence[str]
    size: tuple[int, int]


def _parse_track(entry: object, where: str, frames: int | None) -> _Entry:
    """Check a track of the SAIL-VOS layout, cut to its first frames; damaged masks are found now, not in a run."""
    record = parse_record(entry, where=where)
    if frames is not None:
        record = record.first(frames)
    record.modal_masks()
    record.amodal_masks()
    return _Entry(vars(record), record.image_file_names, record.size)


def _parse_boxes(entry: object, where: str) -> _Entry:
    """Check a track of TAO-Amodal."""
    record = parse_tao_record(entry, where=where)
    record.modal_masks()
    return _Entry(vars(record), record.file_names, (record.height, record.width))


class EntrySource:
    """Tracks of an annotation file.

    Args:
        index: the tracks.
        kind: see `ShardHeader`.
        parse: checks an entry, which it is given with its name.
        images: root of the frames.
        depth: reads their depth; None leaves it out.
    """

    as_tracks = True

    def __init__(
        self,
        index: EntryIndex,
        kind: SourceKind,
        parse: Callable[[object, str], _Entry],
        *,
        images: Path,
        depth: ReadDepth | None = None,
    ) -> None:
        self.index, self.kind, self.images, self.depth = index, kind, images, depth
        self._parse = parse

    def __len__(self) -> int:
        """Number of tracks."""
        return len(self.index)

    def name(self, index: int) -> str:
        """Name of a track."""
        return self.index.name(index)

    def read(self, index: int) -> ShardSample:
        """Read a track.

        Raises:
            InputError: if its record, a mask or a frame is damaged.
        """
        entry = self._parse(self.index.entry(index), self.name(index))
        files = tuple(frame_file(self.images, name) for name in entry.names)
        depth = None if self.depth is None else self.depth(entry.names, entry.size)
        return ShardSample(entry.record, read_frames(files, entry.size), depth, files=files)


class SampleSource:
    """Clips that are samples already: generated scenes, composites, objects in images.

    Args:
        clips: samples with RGB.
        kind: see `ShardHeader`.
        as_tracks: see `ShardHeader`.
    """

    def __init__(self, clips: Clips[AmodalSample], kind: SourceKind, *, as_tracks: bool) -> None:
        self.clips, self.kind, self.as_tracks = clips, kind, as_tracks

    def __len__(self) -> int:
        """Number of clips."""
        return len(self.clips)

    def name(self, index: int) -> str:
        """Name of a clip."""
        return self.clips.name(index)

    def read(self, index: int) -> ShardSample:
        """Read or make a clip.

        Raises:
            InputError: if it cannot be read.
        """
        sample = self.clips[index]
        if sample.rgb is None:
            raise InputError(f"{sample.name}: expected a clip with RGB, got one without")
        places = range(len(sample.modal))
        record = TrackRecord.from_masks(
            sample.modal,
            sample.amodal,
            image_ids=places,
            image_file_names=[f"{index:08d}/{place:05d}.png" for place in places],
            obj_id=1,
        )
        files = tuple(file for file in sample.files if isinstance(file, Path))
        return ShardSample(vars(record), sample.rgb, sample.depth, sample.whole_rgb, files)


def _open_depth(depth: str | None, images: Path) -> ReadDepth | None:
    if depth is None:
        return None
    if depth == BESIDE:
        return _DepthBeside(images)
    root = Path(depth)
    if not root.is_dir():
        raise InputError(f"--depth: {root}: no such folder; expected one, or `{BESIDE}` for depth beside the frames")
    return _DepthPictures(root)


@dataclass(frozen=True)
class _DepthPictures:
    """Depth pictures under the names of the frames, with any ending."""

    root: Path

    def __call__(self, names: Sequence[str], size: tuple[int, int]) -> FloatArray:
        return np.stack([read_depth_picture(frame_file(self.root, name), size) for name in names])


@dataclass(frozen=True)
class _DepthBeside:
    """Depth in ``depth`` or ``depth.npy`` beside the folder of a clip's frames, in their order."""

    images: Path

    def __call__(self, names: Sequence[str], size: tuple[int, int]) -> FloatArray:
        return np.stack([self._read(self.images / name, size) for name in names])

    def _read(self, frame: Path, size: tuple[int, int]) -> FloatArray:
        clip = frame.parent.parent
        order = [path.stem for path in _pictures(frame.parent)]
        if frame.stem not in order:
            raise InputError(f"{frame}: no such file")
        place, array = order.index(frame.stem), clip / "depth.npy"
        if array.is_file():
            maps = _array(array)
            found = maps[place].astype(np.float32) if len(maps) == len(order) else np.empty(0, np.float32)
        else:
            pictures = _pictures(clip / "depth")
            if len(pictures) != len(order):
                raise InputError(f"{clip / 'depth'}: {len(pictures)} maps for {len(order)} frames; give one a frame")
            return read_depth_picture(pictures[place], size)
        if found.shape != size:
            raise InputError(f"{array}: expected depth [F, H, W] of {[len(order), *size]}, got {list(maps.shape)}")
        return found


@lru_cache(maxsize=4)
def _pictures(folder: Path) -> tuple[Path, ...]:
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder")
    return tuple(list_pictures(folder))


@lru_cache(maxsize=2)
def _array(path: Path) -> Any:  # noqa: ANN401 - an array of numbers, checked below
    try:
        maps = load_arrays(path)
    except ValueError as error:
        raise InputError(f"{path}: expected an array of numbers ({error})") from error
    if not isinstance(maps, np.ndarray) or maps.dtype.kind not in "fiu":
        raise InputError(f"{path}: expected an array of numbers")
    return maps
