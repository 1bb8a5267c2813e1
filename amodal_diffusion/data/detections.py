"""Detections in the result format of COCO: boxes of any detector, checked against the images that they are of."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from amodal_diffusion.basics import InputError
from amodal_diffusion.data.sailvos import find_frame
from amodal_diffusion.io.images import list_pictures, open_picture
from amodal_diffusion.io.json_files import load_json

_FARTHEST = 1e7


@dataclass(frozen=True)
class Detection:
    """One detected object.

    Attributes:
        place: place in the file, for messages, such as ``detections.json: 3``.
        image_id: ``image_id`` of its image.
        category_id: ``category_id``; 1 if the file has none.
        box: left, top, width and height in pixels, as the file has them; may leave the image.
        score: the detector's score; 1 if the file has none.
        extra: other keys of the entry that results keep, such as ``id`` and ``track_id``.
    """

    place: str
    image_id: int | str
    category_id: int
    box: tuple[float, float, float, float]
    score: float
    extra: Mapping[str, Any]

    @property
    def corners(self) -> tuple[float, float, float, float]:
        """Left, top, right and bottom in pixels."""
        x, y, width, height = self.box
        return x, y, x + width, y + height


@dataclass(frozen=True)
class DetectedImage:
    """An image and its detections.

    Attributes:
        path: file of the image.
        size: height and width in pixels.
        detections: at least one, in the order of the file.
    """

    path: Path
    size: tuple[int, int]
    detections: Sequence[Detection]


_KEPT = ("id", "track_id", "category_name")


def read_detections(path: Path, images: Path) -> Iterator[DetectedImage]:
    """Read detections and find their images; nothing is yielded before all boxes are checked.

    The file is a list of results ``{image_id, category_id, bbox, score}``, or an object with ``annotations`` (or
    ``detections``) and ``images``. Without ``images`` an ``image_id`` is found by the file's name: the picture whose
    stem it is, or whose stem ends in this number, as in COCO's ``000000000139.jpg``.

    Args:
        path: JSON file.
        images: folder of the images.

    Raises:
        InputError: if the file has another layout, an image is missing, or a box has no area, lies outside its image or
            seems to be ``[x0, y0, x1, y1]``; the message names the first.
    """
    try:
        content = load_json(path)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error
    except ValueError as error:
        raise InputError(f"{path}: expected JSON in UTF-8, got something else ({error})") from error
    entries, listed = _entries(content, path)
    if not images.is_dir():
        raise InputError(f"{images}: expected the folder of the images, got no folder")
    grouped: dict[int | str, list[Detection]] = {}
    for number, entry in enumerate(entries):
        found = _detection(entry, f"{path}: {number}")
        grouped.setdefault(found.image_id, []).append(found)
    finder = _Finder(images, listed)
    checked = [DetectedImage(*finder.find(image, found[0].place), found) for image, found in grouped.items()]
    check_boxes(checked)
    yield from checked


def check_boxes(images: Sequence[DetectedImage]) -> None:
    """Check that boxes are ``[x, y, width, height]`` with a part inside their image.

    A box that leaves its image in part is sound: amodal boxes do. If more than half of the boxes leave their image at
    the right or bottom, but none would as ``[x0, y0, x1, y1]``, the file is taken to hold corners.

    Raises:
        InputError: names the first box that is wrong.
    """
    boxes = [(found, image.size) for image in images for found in image.detections]
    for found, (height, width) in boxes:
        x, y, wide, tall = found.box
        if wide <= 0 or tall <= 0:
            raise InputError(
                f"{found.place}: bbox: expected [x, y, width, height] with an area above 0, got {_shown(found)}; "
                "remove the entry"
            )
        if x >= width or y >= height or x + wide <= 0 or y + tall <= 0:
            raise InputError(
                f"{found.place}: bbox: expected a box in the image of {width}x{height} pixels, got {_shown(found)}, "
                "which lies outside; check image_id and the size of the image"
            )
    leaving = [found for found, size in boxes if _leaves(found, size)]
    corners = all(_could_be_corners(found, size) for found, size in boxes)
    if corners and 2 * len(leaving) > len(boxes):
        raise InputError(
            f"{leaving[0].place}: bbox: expected [x, y, width, height], got {_shown(leaving[0])}, which leaves its "
            "image; it seems to be [x0, y0, x1, y1], so subtract x0 and y0 from the last two numbers"
        )


def _leaves(found: Detection, size: tuple[int, int]) -> bool:
    x, y, wide, tall = found.box
    return x + wide > size[1] + 1 or y + tall > size[0] + 1


def _could_be_corners(found: Detection, size: tuple[int, int]) -> bool:
    x, y, right, bottom = found.box
    return x < right <= size[1] + 1 and y < bottom <= size[0] + 1


def _shown(found: Detection) -> str:
    return "[" + ", ".join(f"{value:g}" for value in found.box) + "]"


def _entries(content: Any, path: Path) -> tuple[list[Any], list[Any] | None]:  # noqa: ANN401 - parsed JSON
    """Detections and, if the file has them, images."""
    listed = None
    if isinstance(content, Mapping):
        listed = content.get("images")
        content = content.get("annotations", content.get("detections"))
    if not isinstance(content, list) or not (listed is None or isinstance(listed, list)):
        raise InputError(
            f"{path}: expected a list of {{image_id, category_id, bbox, score}}, or an object with images and "
            "annotations"
        )
    return content, listed


def _detection(entry: object, place: str) -> Detection:
    """Check one entry."""
    if not isinstance(entry, Mapping):
        raise InputError(f"{place}: expected an object with image_id and bbox, got {type(entry).__name__}")
    image, category, score, box = (
        entry.get(key, default)
        for key, default in (("image_id", None), ("category_id", 1), ("score", 1.0), ("bbox", None))
    )
    if not isinstance(image, int | str) or isinstance(image, bool):
        raise InputError(f"{place}: image_id: expected a number or a name, got {image!r:.40}")
    if not isinstance(category, int) or isinstance(category, bool):
        raise InputError(f"{place}: category_id: expected an integer, got {category!r:.40}")
    if not _is_number(score):
        raise InputError(f"{place}: score: expected a number, got {score!r:.40}")
    if not isinstance(box, list) or len(box) != 4 or not all(map(_is_number, box)):
        raise InputError(f"{place}: bbox: expected [x, y, width, height] in pixels, got {box!r:.60}")
    extra = {key: entry[key] for key in _KEPT if key in entry}
    x, y, width, height = map(float, box)
    return Detection(place, image, category, (x, y, width, height), float(score), extra)


def _is_number(value: object) -> bool:
    if not isinstance(value, int | float) or isinstance(value, bool):
        return False
    return math.isfinite(value) and abs(value) <= _FARTHEST


class _Finder:
    """Finds images by id."""

    def __init__(self, folder: Path, listed: list[Any] | None) -> None:
        self.folder = folder
        self.names: dict[int | str, str] | None = None
        if listed is not None:
            images = [entry for entry in listed if isinstance(entry, Mapping)]
            self.names = {entry["id"]: str(entry.get("file_name")) for entry in images if "id" in entry}
            return
        self.stems: dict[int | str, Path] = {}
        for picture in list_pictures(folder):
            digits = picture.stem[len(picture.stem.rstrip("0123456789")) :]
            if digits:
                self.stems.setdefault(int(digits), picture)
        self.stems |= {picture.stem: picture for picture in list_pictures(folder)}

    def find(self, image: int | str, place: str) -> tuple[Path, tuple[int, int]]:
        """File of an image, and its height and width.

        Raises:
            InputError: if there is no such image, or it cannot be read.
        """
        name = None if self.names is None else self.names.get(image)
        path = self.stems.get(image) if self.names is None else name and find_frame(self.folder, name)
        if not path:
            wanted = f"image {image!r}" if name is None else name
            raise InputError(f"{place}: {wanted}: no such image in {self.folder}; check image_id and --images")
        with open_picture(Path(path)) as picture:
            turned = picture.getexif().get(0x0112, 1) in (5, 6, 7, 8)
            width, height = picture.size
        return Path(path), (width, height) if turned else (height, width)
