"""Writes what the methods of a run predicted in the formats of other tools, a folder a method."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing
from pathlib import Path

import numpy as np

from amodal_diffusion.data.records import TrackRecord
from amodal_diffusion.evaluation.exports import Format, exported_files, open_export
from amodal_diffusion.evaluation.results import TrackResult, TrackStore
from amodal_diffusion.video.masks import decode_rle, rle_box

FOLDER = "exports"


def files_of_exports(store: TrackStore, methods: Sequence[str], formats: Sequence[Format]) -> list[str]:
    """What `write_exports` is going to write, relative to the run's folder."""
    folders = _folders(methods)
    files = exported_files(formats, lambda: (record for _, record in _records(store, methods[0])))
    return [f"{folders[name]}/{file}" for name in methods for file in files]


def write_exports(store: TrackStore, methods: Sequence[str], formats: Sequence[Format], folder: Path) -> None:
    """Write the first prediction of every method for every track.

    A track is a video of its own, of which a frame is named ``IDENTITY/00000.png``; its object is number 1.

    Args:
        store: the finished tracks.
        methods: their names.
        formats: to write.
        folder: of the run.
    """
    for name, place in _folders(methods).items():
        with ExitStack() as stack:
            exports = [stack.enter_context(closing(open_export(form, folder / place))) for form in formats]
            for track, record in _records(store, name):
                masks = np.stack([decode_rle(mask) for mask in track.methods[name].samples[0].masks])
                for export in exports:
                    export.add(record, masks)


def _records(store: TrackStore, method: str) -> Iterator[tuple[TrackResult, TrackRecord]]:
    """Scored tracks as the exports want them, their frames numbered through from 1."""
    first = 1
    for track in store:
        if isinstance(track, TrackResult):
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


def _folders(methods: Sequence[str]) -> dict[str, str]:
    """A folder for each method; a model's name may be a path."""
    return {
        name: f"{FOLDER}/{number}_{re.sub(r'[^A-Za-z0-9.@-]+', '_', name).strip('_')}"
        for number, name in enumerate(methods)
    }
