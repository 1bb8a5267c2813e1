"""Published prediction files, objects of masks or boxes by key: any size, one entry in memory at a time."""

from __future__ import annotations

import ast
import json
import sqlite3
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Self

import ijson
import numpy as np

from amodal_diffusion.data.records import TrackRecord
from amodal_diffusion.data.tao_amodal import TaoRecord, is_box
from amodal_diffusion.frames.masks import decode_rle, resize_masks
from amodal_diffusion.metrics.boxes import Boxes
from amodal_diffusion.types import BoolArray, InputError

MASK, BOX = "diffvas_res_rle", "diffvas_res_bbox"


class MissingPredictionError(InputError):
    """A file has no prediction for a frame of a track."""


class PredictionFile:
    """A JSON object of predictions by key, as ``"(image_id, obj_id)"``; use as a context.

    The entries lie in a temporary database while the file is open, because they come in any order.
    """

    def __init__(self, path: Path) -> None:
        """Read the file.

        Args:
            path: the JSON file.

        Raises:
            InputError: if it cannot be read, is no such JSON, is empty, or has a key that is no tuple or stands twice.
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
            record: the track; keys are ``(image_id, obj_id)``.

        Returns:
            bool ``[F, H, W]``.

        Raises:
            MissingPredictionError: if a frame has none.
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
            record: the track; keys are ``(video_id, name of the frame, number)``.
            number: of the track among its video's, as text or integer in the key.

        Returns:
            float64 ``[F, 4]``: x, y, width, height.

        Raises:
            MissingPredictionError: if a frame has none.
            InputError: if a value is no box.
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
        """Keys in one spelling and values as text."""
        try:
            with self.path.open("rb") as file:
                for key, value in ijson.kvitems(file, "", use_float=True):
                    yield _text(_parsed(key, self.path)), json.dumps(value, separators=(",", ":"))
        except OSError as error:
            raise InputError(f"{self.path}: cannot be read ({error.strerror})") from error
        except ijson.JSONError as error:
            raise InputError(f"{self.path}: expected a JSON object in UTF-8, got something else") from error


def _parsed(key: str, path: Path) -> tuple[object, ...]:
    """The tuple that a key spells."""
    try:
        value = ast.literal_eval(key)
    except (ValueError, SyntaxError):
        value = None
    if not isinstance(value, tuple):
        raise InputError(f'{path}: expected keys such as "(image_id, obj_id)", got {key!r:.60}')
    return value


def _text(key: tuple[object, ...]) -> str:
    """One spelling of a key, whatever of it is text or number."""
    return "\0".join(str(part) for part in key)
