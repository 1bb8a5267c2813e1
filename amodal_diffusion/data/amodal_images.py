"""Amodal annotations of single images in the layouts of KINS and COCOA."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from amodal_diffusion.basics import InputError
from amodal_diffusion.data.index import EntryIndex, is_known, parse_entries, stream_entries
from amodal_diffusion.io.coco import decode_coco_mask, may_be_visible
from amodal_diffusion.io.json_stream import JsonStream
from amodal_diffusion.types import BoolArray

AMODAL_KEYS = ("a_segm", "segmentation")
MODAL_KEYS = ("i_segm", "inmodal_seg", "visible_mask")


@dataclass(frozen=True)
class AmodalObject:
    """An object in an image.

    Attributes:
        image_file_name: path of the image, relative to the root of the images.
        size: height and width in pixels.
        modal: modal (visible) mask, bool ``[H, W]``.
        amodal: amodal mask, bool ``[H, W]``.
    """

    image_file_name: str
    size: tuple[int, int]
    modal: BoolArray
    amodal: BoolArray


class AmodalImageIndex(EntryIndex):
    """Random access to the objects of an annotation file, see `EntryIndex`.

    The file has ``images`` with ``id``, ``file_name``, ``height`` and ``width``, and ``annotations`` with ``image_id``.
    An annotation is one object (KINS) or has a list of objects as ``regions`` (COCOA). An object's amodal mask is
    ``a_segm`` or ``segmentation``; its modal mask is ``i_segm``, ``inmodal_seg`` or ``visible_mask``. A region without
    a modal mask is fully visible. Objects without a visible pixel are skipped.

    Raises:
        InputError: if the file cannot be read or does not have this layout.
    """

    start = "{"
    layout = "amodal images"

    def object(self, number: int) -> AmodalObject:
        """Read and check an object.

        Args:
            number: index among the visible objects, from 0.

        Raises:
            IndexError: if there is no such object.
            InputError: if a mask is invalid.
        """
        entry = self.entry(number)
        height, width = entry["size"]
        masks = {}
        for key in ("modal", "amodal"):
            try:
                masks[key] = decode_coco_mask(entry[key], height, width)
            except InputError as error:
                raise InputError(f"{key} mask: {error}") from error
        return AmodalObject(entry["file_name"], (height, width), **masks)

    def places(self, limit: int | None = None) -> Iterator[str]:
        """``IMAGE/PLACE`` of each object: the id of its image and its index in that image, from 0."""
        return (f"{image}/{place}" for image, place in self.values("$.image", "$.place", limit=limit))

    def entries(self, file: JsonStream) -> Iterator[Any]:
        """See `EntryIndex`."""
        images = read_images(self.annotations)
        places: Counter[Any] = Counter()
        for item in _items(parse_entries(file, self.annotations, "annotations.item"), images, self.annotations):
            row = {
                **images[item.image],
                "image": item.image,
                "place": places[item.image],
                "amodal": item.value(AMODAL_KEYS),
                "modal": item.value(AMODAL_KEYS if item.all_visible else MODAL_KEYS),
            }
            places[item.image] += 1
            if may_be_visible(row["modal"], *row["size"]):
                yield row


@dataclass(frozen=True)
class AnnotatedObject:
    """An object as the file has it, its masks not yet decoded.

    Attributes:
        image: id of its image.
        size: height and width of the image in pixels.
        category: its ``category_id``; 1 without.
        entry: the JSON of the object.
        all_visible: known to be fully visible, as a region of COCOA without a modal mask is.
        where: of the object, for messages.
    """

    image: int | str
    size: tuple[int, int]
    category: int
    entry: Mapping[str, Any]
    all_visible: bool
    where: str

    def amodal(self) -> BoolArray:
        """Amodal mask, bool ``[H, W]``.

        Raises:
            InputError: if it is missing or damaged.
        """
        return self._decoded(AMODAL_KEYS)

    def modal(self) -> BoolArray | None:
        """Modal mask, bool ``[H, W]``; None if the file has none.

        Raises:
            InputError: if it is damaged.
        """
        if self.all_visible:
            return self.amodal()
        return self._decoded(MODAL_KEYS) if any(key in self.entry for key in MODAL_KEYS) else None

    def value(self, keys: tuple[str, ...]) -> object:
        """A mask in its JSON form; a bare polygon becomes a list of one polygon.

        Args:
            keys: that it may have; the first that is there counts.

        Raises:
            InputError: if none is there.
        """
        key = next((key for key in keys if key in self.entry), None)
        if key is None:
            raise InputError(f"{self.where}: expected {' or '.join(keys)}, got the keys {', '.join(self.entry)}")
        value = self.entry[key]
        alone = isinstance(value, list) and value and all(isinstance(number, int | float) for number in value)
        return [value] if alone else value

    def _decoded(self, keys: tuple[str, ...]) -> BoolArray:
        value = self.value(keys)
        try:
            return decode_coco_mask(value, *self.size)
        except InputError as error:
            raise InputError(f"{self.where}: {error}") from error


def stream_objects(path: Path) -> Iterator[AnnotatedObject]:
    """Read the objects of a file one by one, hidden ones too; modal masks may be missing.

    Args:
        path: in the layout of `AmodalImageIndex`.

    Raises:
        InputError: if the file cannot be read or does not have this layout.
    """
    return _items(stream_entries(path, "annotations"), read_images(path), path)


def _items(
    entries: Iterator[Any], images: Mapping[int | str, Mapping[str, Any]], path: Path
) -> Iterator[AnnotatedObject]:
    for number, entry in enumerate(entries):
        where = f"{path}: annotations: {number}"
        if not isinstance(entry, Mapping) or not is_known(entry.get("image_id"), images):
            raise InputError(f"{where}: expected an object with the image_id of one of the images, got {entry!r:.60}")
        image, category = entry["image_id"], entry.get("category_id", 1)
        height, width = images[image]["size"]
        for item, all_visible in _objects(entry, where):
            yield AnnotatedObject(image, (height, width), category, item, all_visible, where)


def read_images(path: Path) -> dict[int | str, dict[str, Any]]:
    """Read the images of a file in the layout of `AmodalImageIndex`: ``file_name`` and ``size`` (H, W) by ``id``.

    Raises:
        InputError: if the file cannot be read, an image lacks a key, or two have one ``id``.
    """
    images: dict[int | str, dict[str, Any]] = {}
    wanted = {"id": int | str, "file_name": str, "height": int, "width": int}
    for number, entry in enumerate(stream_entries(path, "images")):
        if not isinstance(entry, Mapping) or not all(isinstance(entry.get(key), kind) for key, kind in wanted.items()):
            raise InputError(f"{path}: images: {number}: expected {', '.join(wanted)}, got {entry!r:.60}")
        if entry["id"] in images:
            raise InputError(f"{path}: images: expected a different id for each, got {entry['id']} twice")
        images[entry["id"]] = {"file_name": entry["file_name"], "size": [entry["height"], entry["width"]]}
    return images


def _objects(entry: Mapping[str, Any], where: str) -> Iterator[tuple[Mapping[str, Any], bool]]:
    """The objects of an annotation, and whether each is known to be fully visible."""
    if "regions" not in entry:
        yield entry, False
        return
    if not isinstance(entry["regions"], list):
        raise InputError(f"{where}: expected a list of regions, got {entry['regions']!r:.60}")
    for region in entry["regions"]:
        if not isinstance(region, Mapping):
            raise InputError(f"{where}: expected regions that are objects, got {region!r:.60}")
        yield region, not any(key in region for key in MODAL_KEYS)
