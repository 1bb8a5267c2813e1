"""Predicted masks in the formats of other tools: COCO JSON, YouTube-VIS JSON, and pictures as DAVIS has them."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Literal, Protocol, get_args

import numpy as np

from amodal_diffusion.basics import InputError
from amodal_diffusion.data.records import TrackRecord, write_records
from amodal_diffusion.evaluation.benchmarks.base import Benchmark, MaskTarget, PredictionEntries
from amodal_diffusion.evaluation.results import ResultStore, TargetResult
from amodal_diffusion.frames.masks import decode_rle, rle_box
from amodal_diffusion.io.coco import AnnotatedTrack, CocoFile, YoutubeVisFile
from amodal_diffusion.io.images import write_label_png
from amodal_diffusion.types import BoolArray

Format = Literal["coco", "youtube-vis", "davis"]
FORMATS: tuple[Format, ...] = get_args(Format)
EXPORT_NAMES: dict[Format, str] = {"coco": "coco.json", "youtube-vis": "youtube_vis.json", "davis": "davis"}
"""File or folder of each format."""


class Export(Protocol):
    """A file or folder that is written track by track."""

    def add(self, record: TrackRecord, masks: BoolArray) -> None:
        """Write a track's predicted amodal masks, bool ``[F, H, W]``."""

    def close(self) -> None:
        """Finish the file."""


def read_formats(text: str) -> list[Format]:
    """Split a list of formats, separated by commas.

    Raises:
        InputError: if one is unknown.
    """
    names = [name.strip() for name in text.split(",") if name.strip()]
    wrong = sorted(set(names) - set(FORMATS))
    if wrong:
        raise InputError(f"export: expected {', '.join(FORMATS)}, got {', '.join(wrong)}")
    return [name for name in FORMATS if name in names]


def open_export(name: Format, folder: Path) -> Export:
    """Begin an export under its usual name.

    Args:
        name: the format.
        folder: an existing folder.
    """
    writers: dict[Format, Callable[[Path], Export]] = {
        "coco": lambda path: AnnotationExport(CocoFile(path)),
        "youtube-vis": lambda path: AnnotationExport(YoutubeVisFile(path)),
        "davis": DavisExport,
    }
    return writers[name](folder / EXPORT_NAMES[name])


def exported_files(formats: Sequence[Format], records: Callable[[], Iterable[TrackRecord]]) -> list[str]:
    """Files that exports write, relative to their folder.

    Args:
        formats: the formats to write.
        records: gives the tracks; called only for formats with one file or more per track.
    """
    files = [EXPORT_NAMES[name] for name in formats if name != "davis"]
    if "davis" in formats:
        videos = Videos()
        for record in records():
            files += [f"{EXPORT_NAMES['davis']}/{name}" for name in davis_names(record, videos)]
    return files


class Videos:
    """Numbers the clips of an annotation file in their order, from 1."""

    def __init__(self) -> None:
        """Start with no clips."""
        self._numbers: dict[tuple[str, ...], int] = {}

    def number(self, record: TrackRecord) -> int:
        """Number of a track's clip; tracks of the same frames share one."""
        return self._numbers.setdefault(record.image_file_names, len(self._numbers) + 1)


class AnnotationExport:
    """A COCO or YouTube-VIS file; the object's number is its ``track_id``."""

    def __init__(self, file: CocoFile | YoutubeVisFile) -> None:
        """Take the open file."""
        self._file, self._videos = file, Videos()

    def add(self, record: TrackRecord, masks: BoolArray) -> None:
        """See `Export`."""
        self._file.add(_annotated(record, self._videos), masks)

    def close(self) -> None:
        """See `Export`."""
        self._file.close()


class DavisExport:
    """Palette pictures ``VIDEO/OBJECT/00000.png`` of 0 and 1; amodal masks overlap, so each object has a folder."""

    def __init__(self, folder: Path) -> None:
        """Name the folder."""
        self._folder = folder
        self._videos = Videos()

    def add(self, record: TrackRecord, masks: BoolArray) -> None:
        """See `Export`."""
        for name, mask in zip(davis_names(record, self._videos), masks, strict=True):
            path = self._folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            write_label_png(path, mask.astype(np.uint8))

    def close(self) -> None:
        """See `Export`."""


def davis_names(record: TrackRecord, videos: Videos) -> Iterator[str]:
    """Relative paths of a track's pictures, in the order of its frames.

    Args:
        record: the track.
        videos: numbers of the clips so far.
    """
    video = videos.number(record)
    for frame in range(record.num_frames):
        yield f"{video:05d}/{record.obj_id}/{frame:05d}.png"


def _annotated(record: TrackRecord, videos: Videos) -> AnnotatedTrack:
    """A record as annotation files name it; categories have numbers but no names."""
    height, width = record.size
    return AnnotatedTrack(
        number=record.obj_id,
        category=record.category_id,
        category_name=str(record.category_id),
        video=videos.number(record),
        image_ids=record.image_ids,
        file_names=record.image_file_names,
        height=height,
        width=width,
    )


FOLDER, PREDICTIONS = "exports", "predictions.json"
TRUTH = f"{FOLDER}/annotations.json"
"""The true masks of the exported tracks, in the layout of SAIL-VOS sequences, as the command `score` takes them."""


def files_of_exports(store: ResultStore, methods: Sequence[str], formats: Sequence[Format]) -> list[str]:
    """Files that `write_exports` writes, relative to the work folder."""
    folders = _folders(methods)
    files = exported_files(formats, lambda: (record for _, record in _records(store, methods[0])))
    truth = [TRUTH] if any(track.occlusion is not None for track, _ in _records(store, methods[0])) else []
    return truth + [f"{folders[name]}/{file}" for name in methods for file in files]


def write_exports(
    store: ResultStore, methods: Sequence[str], formats: Sequence[Format], benchmark: Benchmark, folder: Path
) -> None:
    """Write the first prediction of every method for every track, and once the truth of the tracks that have masks.

    A track is a video of its own, of which a frame is named ``IDENTITY/00000.png``; its object is number 1.

    Args:
        store: the results.
        methods: names of the methods.
        formats: the formats to write.
        benchmark: generates or reads the tracks once more, for their true masks.
        folder: work folder of the results.
    """
    (folder / FOLDER).mkdir(parents=True, exist_ok=True)
    if TRUTH in files_of_exports(store, methods, formats):
        write_records(folder / TRUTH, _true_records(store, methods[0], benchmark))
    for name, place in _folders(methods).items():
        with ExitStack() as stack:
            exports = [stack.enter_context(closing(open_export(form, folder / place))) for form in formats]
            for track, record in _records(store, name):
                masks = np.stack([decode_rle(mask) for mask in track.methods[name].samples[0].masks])
                for export in exports:
                    export.add(record, masks)


def prediction_files(methods: Sequence[str]) -> list[str]:
    """Files that `write_predictions` writes, relative to the work folder."""
    return [f"{folder}/{PREDICTIONS}" for folder in _folders(methods).values()]


def write_predictions(store: ResultStore, methods: Sequence[str], entries: PredictionEntries, folder: Path) -> None:
    """Write the first prediction of every method in the published layout, one JSON object a method.

    Args:
        store: the results.
        methods: names of the methods.
        entries: puts the masks of a track into the layout.
        folder: work folder of the results.
    """
    for name, place in _folders(methods).items():
        (folder / place).mkdir(parents=True, exist_ok=True)
        with (folder / place / PREDICTIONS).open("w", encoding="utf-8") as file:
            start = "{"
            for track in store:
                if isinstance(track, TargetResult):
                    masks = np.stack([decode_rle(mask) for mask in track.methods[name].samples[0].masks])
                    for key, value in entries(track.index, masks).items():
                        file.write(f"{start}\n {json.dumps(key)}: {json.dumps(value)}")
                        start = ","
            file.write("\n}\n")


def _records(store: ResultStore, method: str) -> Iterator[tuple[TargetResult, TrackRecord]]:
    """Scored tracks as records, with frames numbered through from 1."""
    first = 1
    for track in store:
        if isinstance(track, TargetResult):
            masks = track.methods[method].samples[0].masks
            record = TrackRecord(
                segmentation=masks,
                visible_mask=masks,
                bbox=tuple(map(rle_box, masks)),
                image_ids=tuple(range(first, first + len(masks))),
                obj_id=1,
                category_id=1,
                image_file_names=tuple(f"{track.identity}/{frame:05d}.png" for frame in range(len(masks))),
            )
            first += len(masks)
            yield track, record


def _true_records(store: ResultStore, method: str, benchmark: Benchmark) -> Iterator[TrackRecord]:
    """True masks of the scored tracks, with the numbers and names of `_records`."""
    for track, record in _records(store, method):
        target = benchmark.track(track.index)
        if isinstance(target, MaskTarget):
            yield TrackRecord.from_masks(
                target.clip.modal_mask,
                target.amodal_mask,
                image_ids=record.image_ids,
                image_file_names=record.image_file_names,
                obj_id=record.obj_id,
                category_id=record.category_id,
            )


def _folders(methods: Sequence[str]) -> dict[str, str]:
    """Folder of each method; a model's name may be a path."""
    return {
        name: f"{FOLDER}/{number}_{re.sub(r'[^A-Za-z0-9.@-]+', '_', name).strip('_')}"
        for number, name in enumerate(methods)
    }
