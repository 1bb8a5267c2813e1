"""Prediction files: masks or boxes by key as published, and result lists of COCO and YouTube-VIS."""

from __future__ import annotations

import ast
import json
import math
import sqlite3
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Self

import ijson
import numpy as np

from amodal_diffusion.basics import InputError
from amodal_diffusion.data.index import stream_entries
from amodal_diffusion.data.records import TrackRecord
from amodal_diffusion.data.tao_amodal import TaoRecord, is_box
from amodal_diffusion.evaluation.true_instances import ResultKind, TrueInstances, decode_masks
from amodal_diffusion.frames.masks import decode_rle, resize_masks
from amodal_diffusion.io.json_files import is_list
from amodal_diffusion.io.json_stream import JsonStream
from amodal_diffusion.metrics import Instance
from amodal_diffusion.metrics.boxes import Boxes
from amodal_diffusion.types import BoolArray

MASK, BOX = "diffvas_res_rle", "diffvas_res_bbox"


class MissingPredictionError(InputError):
    """A prediction file lacks a frame of a track."""


class PredictionFile:
    """A JSON object of predictions by key, as ``"(image_id, obj_id)"``; use as a context.

    The entries come in any order, so they are kept in a temporary database while the file is open.
    """

    def __init__(self, path: Path) -> None:
        """Read the file.

        Args:
            path: the JSON file.

        Raises:
            InputError: if the file cannot be read, is not such JSON, is empty, or has a damaged or repeated key.
        """
        self.path = path
        self._stack = ExitStack()
        folder = Path(self._stack.enter_context(tempfile.TemporaryDirectory()))
        self._database = sqlite3.connect(folder / "predictions")
        self._stack.callback(self._database.close)
        self._database.execute("PRAGMA journal_mode = OFF")
        self._database.execute("CREATE TABLE entries (key TEXT PRIMARY KEY, value TEXT) WITHOUT ROWID")
        try:
            if self._database.executemany("INSERT INTO entries VALUES (?, ?)", self._read()).rowcount < 1:
                raise InputError(f"{path}: expected a JSON object of predictions by key, got none")
        except sqlite3.IntegrityError as error:
            self.close()
            raise InputError(f"{path}: a key stands twice; expected one prediction for each frame") from error
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Remove the temporary database."""
        self._stack.close()

    def masks(self, record: TrackRecord) -> BoolArray:
        """The predicted masks of a track at the annotation's size.

        Args:
            record: the track, keyed by ``(image_id, obj_id)``.

        Returns:
            bool ``[F, H, W]``.

        Raises:
            MissingPredictionError: if a frame has no prediction.
            InputError: if a mask is damaged or the masks differ in size.
        """
        decoded = []
        for image in record.image_ids:
            value = self._value((image, record.obj_id), MASK)
            try:
                decoded.append(decode_rle(value))
            except (InputError, AttributeError) as error:
                raise InputError(f"{self.path}: ({image}, {record.obj_id}): {error}") from error
        sizes = sorted({mask.shape for mask in decoded})
        if len(sizes) > 1:
            raise InputError(f"{self.path}: object {record.obj_id}: expected masks of one size, got {sizes}")
        return resize_masks(np.stack(decoded), *record.size)

    def boxes(self, record: TaoRecord, number: int) -> Boxes:
        """The predicted boxes of a track.

        Args:
            record: the track, keyed by ``(video_id, name of the frame, number)``.
            number: number of the track in the key, where it may be text or an integer.

        Returns:
            float64 ``[F, 4]``: x, y, width, height.

        Raises:
            MissingPredictionError: if a frame has no prediction.
            InputError: if a value is not a box.
        """
        boxes = []
        for name in record.file_names:
            key = (record.video_id, name.rsplit("/", 1)[-1], number)
            value = self._value(key, BOX)
            if not is_box(value):
                raise InputError(f"{self.path}: {key}: {BOX}: expected [x, y, width, height], got {value!r:.60}")
            boxes.append(value)
        return np.asarray(boxes, dtype=np.float64)

    def _value(self, key: tuple[object, ...], name: str) -> Any:  # noqa: ANN401 - what JSON has
        found = self._database.execute("SELECT value FROM entries WHERE key = ?", (_text(key),)).fetchone()
        if found is None:
            raise MissingPredictionError(f"{self.path}: expected an entry {key}, got none")
        entry = json.loads(found[0])
        if not isinstance(entry, Mapping) or name not in entry:
            raise InputError(f"{self.path}: {key}: expected an object with {name}, got {found[0]:.60}")
        return entry[name]

    def _read(self) -> Iterator[tuple[str, str]]:
        """Keys in a canonical spelling, and values as JSON text."""
        try:
            with self.path.open("rb") as file:
                for key, value in ijson.kvitems(JsonStream(file), "", use_float=True):
                    yield _text(_parsed(key, self.path)), json.dumps(value, separators=(",", ":"))
        except OSError as error:
            raise InputError(f"{self.path}: cannot be read ({error.strerror})") from error
        except InputError:
            raise
        except (ijson.JSONError, ValueError) as error:
            raise InputError(f"{self.path}: expected a JSON object in UTF-8, got something else") from error


def _parsed(key: str, path: Path) -> tuple[object, ...]:
    """The tuple that a key spells out."""
    try:
        value = ast.literal_eval(key)
    except (ValueError, SyntaxError, MemoryError, RecursionError):  # the latter two of thousands of brackets
        value = None
    if not isinstance(value, tuple):
        raise InputError(f'{path}: expected keys such as "(image_id, obj_id)", got {key!r:.60}')
    return value


def _text(key: tuple[object, ...]) -> str:
    """Canonical spelling of a key; text and numbers are not told apart."""
    return "\0".join(str(part) for part in key)


def kind_of_results(path: Path) -> ResultKind | None:
    """Which result list a file is, by its first entry; None if it is not a list.

    Args:
        path: a JSON list of results, or an object with ``annotations`` as `score --export` writes it.

    Raises:
        InputError: if the file cannot be read or a list's first entry is neither.
    """
    first = next(_results(path), None)
    if first is None:
        return None
    if isinstance(first, Mapping) and "segmentations" in first:
        return "youtube-vis"
    if isinstance(first, Mapping) and "segmentation" in first:
        return "coco"
    raise InputError(
        f"{path}: expected results with segmentation (COCO) or segmentations (YouTube-VIS), got {first!r:.60}"
    )


@dataclass(frozen=True)
class Coverage:
    """How many of the images or videos of a prediction file the annotations have.

    Attributes:
        given: number of images or videos of the prediction file.
        found: number of those that the annotations have.
    """

    given: int
    found: int


def read_instances(path: Path, kind: ResultKind, truth: TrueInstances) -> tuple[list[Instance], Coverage]:
    """Read a result list; results on images or videos that the annotations do not have are left out.

    An image or video of the file is that of the annotations if it has the same number and, where the file is an object
    that lists its images or videos, the same file names and size.

    Args:
        path: a JSON list of results, or an object with ``annotations`` and ``images`` or ``videos``.
        kind: layout of the results.
        truth: the annotations.

    Raises:
        InputError: if a result is damaged; names the result.
    """
    sizes, own = truth.sizes[kind], _own_groups(path, kind)
    same = {group for group, about in own.items() if _is_same(about, sizes.get(group), truth.names[kind].get(group))}
    known = same if own else sizes.keys()
    instances, given = [], set(own)
    for number, entry in enumerate(_results(path)):
        where = f"{path}: result {number}"
        group = _group_of(entry, kind, where=where)
        given.add(group)
        if group in known:
            instances.append(_instance(entry, group, kind, sizes[group], where=where))
    return instances, Coverage(len(given), len(given & known))


def _own_groups(path: Path, kind: ResultKind) -> dict[str, Mapping[str, Any]]:
    """The images or videos that an object of predictions lists, by number; none of a list of results."""
    if is_list(path):
        return {}
    entries = stream_entries(path, "images" if kind == "coco" else "videos")
    return {str(entry["id"]): entry for entry in entries if isinstance(entry, Mapping) and "id" in entry}


def _is_same(own: Mapping[str, Any], size: tuple[int, int, int] | None, names: tuple[str, ...] | None) -> bool:
    """Whether an image or video of the prediction file is the annotations'; keys that it lacks are not compared."""
    if size is None:
        return False
    given = (own.get("height", size[0]), own.get("width", size[1]), own.get("length", size[2]))
    own_names = own["file_names"] if isinstance(own.get("file_names"), list) else [own.get("file_name")]
    if given != size or not names or own_names == [None]:
        return given == size
    return len(own_names) == len(names) and all(map(_is_same_file, own_names, names))


def _is_same_file(one: object, other: str) -> bool:
    """Whether two paths name one frame: roots and endings may differ, as after a conversion of the pictures."""
    paths = (PurePosixPath(str(path)) for path in (one, other))
    first, second = ((path.parent / path.stem).parts for path in paths)
    shared = min(len(first), len(second))
    return first[-shared:] == second[-shared:]


def _results(path: Path) -> Iterator[Any]:
    """The entries of a list, or of the list ``annotations`` of an object."""
    return stream_entries(path, "" if is_list(path) else "annotations")


_KEYS = {"coco": ("image_id", "segmentation"), "youtube-vis": ("video_id", "segmentations")}
"""Of a result: its image or video, and its masks."""


def _group_of(entry: object, kind: ResultKind, *, where: str) -> str:
    group_key, mask_key = _KEYS[kind]
    if not isinstance(entry, Mapping) or mask_key not in entry:
        raise InputError(f"{where}: expected an object with {group_key}, {mask_key} and score, got {entry!r:.60}")
    return str(entry.get(group_key))


def _instance(
    entry: Mapping[str, Any], group: str, kind: ResultKind, size: tuple[int, int, int], *, where: str
) -> Instance:
    mask_key, score = _KEYS[kind][1], entry.get("score")
    if not isinstance(score, int | float) or not abs(score) < math.inf:
        raise InputError(f"{where}: score: expected a number, got {score!r:.40}; precision needs an order of results")
    masks = entry[mask_key] if kind == "youtube-vis" else [entry[mask_key]]
    decoded = decode_masks(masks, size, where=f"{where}: {mask_key}")
    return Instance.from_masks(group, decoded, category=entry.get("category_id", 1), score=float(score))
