"""Amodal-LVIS: occluded images with known amodal masks, made of the complete objects of an LVIS or COCO file.

1. A predictor finds the objects of the file that nothing occludes (`complete_objects`).
2. Pairs of them become an image in which one occludes the other at a chosen rate (`synthesize`), and every such image
   has its untouched twin. Without the twins a model learns to invent hidden parts for plainly visible objects.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from scipy import ndimage

from amodal_diffusion.basics import InputError
from amodal_diffusion.data.index import stream_entries
from amodal_diffusion.data.sailvos import find_frame, read_frame
from amodal_diffusion.frames.boxes import tight_box
from amodal_diffusion.frames.masks import Rle, decode_rle, encode_rle, rle_area, rle_box
from amodal_diffusion.io.atomic import replacing_file
from amodal_diffusion.io.coco import read_coco_mask
from amodal_diffusion.synthetic.occlusion import (
    OcclusionRule,
    Placement,
    cut_out,
    paste,
    place_occluder,
    scale_cutout,
    shift_mask,
)
from amodal_diffusion.synthetic.rng import Rng
from amodal_diffusion.types import BoolArray, FloatArray, UInt8Array

Predictor = Callable[[UInt8Array, FloatArray], Iterable[tuple[BoolArray, float]]]
"""Takes an image, uint8 ``[H, W, 3]``, and boxes, float ``[Q, 4]`` of left, top, right, bottom; gives the amodal mask,
bool ``[H, W]``, and a confidence in [0, 1] of each box."""

ANNOTATIONS = "annotations.json"
_TRIES = 20  # pairs drawn for one image


@dataclass(frozen=True)
class SourceObject:
    """An annotated object.

    Attributes:
        number: ``id`` of the annotation.
        category: ``category_id``.
        mask: modal mask.
    """

    number: int
    category: int
    mask: Rle


@dataclass(frozen=True)
class SourceImage:
    """An image and its objects.

    Attributes:
        number: ``id`` of the image.
        file_name: path relative to the root of the images.
        size: height and width in pixels.
        objects: annotated objects, without crowds.
    """

    number: int
    file_name: str
    size: tuple[int, int]
    objects: Sequence[SourceObject]


@dataclass(frozen=True)
class PoolRule:
    """Which objects count as complete. SAMEO's paper states no numbers: all defaults are ours.

    Attributes:
        least_iou: least IoU of the predicted amodal with the annotated mask.
        most_added: largest share of the predicted mask outside the annotated one.
        least_confidence: least confidence of the predictor.
        least_area: least number of pixels.
        border: least distance in pixels of the box from the border of the image.
        least_component: least share of the largest connected component.
    """

    least_iou: float = 0.90
    most_added: float = 0.05
    least_confidence: float = 0.8
    least_area: int = 32 * 32
    border: int = 2
    least_component: float = 0.90


@dataclass(frozen=True)
class Pool:
    """Complete objects.

    Attributes:
        images: images with only their complete objects; those without any are left out.
        reasons: number of objects that were left out, by reason.
    """

    images: list[SourceImage]
    reasons: Counter[str]

    @property
    def size(self) -> int:
        """Number of complete objects."""
        return sum(len(image.objects) for image in self.images)


@dataclass(frozen=True)
class SynthesisSettings:
    """What is made.

    Attributes:
        count: number of occluded images; as many untouched twins are written.
        seed: random seed; image ``i`` depends on seed and ``i`` alone.
        same_category: whether target and occluder may be of one category.
        feather: width in pixels of the soft edge of the occluder.
        picture_format: ``png``, or ``jpg`` at quality 95, which is a tenth of the size.
        rule: scale, rate and placement of occluders.
    """

    count: int = 1000
    seed: int = 0
    same_category: bool = True
    feather: float = 1.0
    picture_format: str = "jpg"
    rule: OcclusionRule = field(default_factory=OcclusionRule)

    def __post_init__(self) -> None:
        """Check count and format.

        Raises:
            InputError: if one is out of range.
        """
        if self.count < 1 or self.picture_format not in ("png", "jpg"):
            raise InputError(
                f"synthesis: expected a count of at least 1 and picture_format png or jpg, got {self.count} and "
                f"{self.picture_format!r}"
            )


def read_lvis(path: Path) -> Iterator[SourceImage]:
    """Read the images of an LVIS or COCO file; crowds and objects without a pixel are left out.

    Args:
        path: JSON file with ``images`` (``file_name``, or LVIS's ``coco_url``) and ``annotations``.

    Raises:
        InputError: if an entry lacks a value, or a mask has another size than its image.
    """
    grouped: dict[int, list[SourceObject]] = {}
    images: dict[int, tuple[str, tuple[int, int]]] = {}
    for number, entry in enumerate(stream_entries(path, "images")):
        where = f"{path}: images: {number}"
        url = str(_entry(entry, where).get("coco_url", ""))
        name = str(entry.get("file_name") or "/".join(url.split("/")[-2:]))
        if not name:
            raise InputError(f"{where}: expected file_name or coco_url, got the keys {', '.join(entry)}")
        images[_whole(entry, "id", where)] = (name, (_whole(entry, "height", where), _whole(entry, "width", where)))
    for number, entry in enumerate(stream_entries(path, "annotations")):
        where = f"{path}: annotations: {number}"
        image = _whole(_entry(entry, where), "image_id", where)
        if image not in images:
            raise InputError(f"{where}: image_id: expected one of the {len(images)} images, got {image}")
        if entry.get("iscrowd"):
            continue
        try:
            mask = read_coco_mask(entry.get("segmentation"), *images[image][1])
        except InputError as error:
            raise InputError(f"{where}: segmentation: {error}") from error
        if mask is not None and rle_area(mask) > 0:
            found = SourceObject(_whole(entry, "id", where), _whole(entry, "category_id", where), mask)
            grouped.setdefault(image, []).append(found)
    for image, objects in grouped.items():
        yield SourceImage(image, *images[image], objects)


def incomplete_reason(modal: BoolArray, amodal: BoolArray, confidence: float, rule: PoolRule) -> str | None:
    """Why an object does not count as complete; None if it does.

    Args:
        modal: annotated mask, bool ``[H, W]``, not empty.
        amodal: predicted amodal mask, bool ``[H, W]``.
        confidence: of the prediction, in [0, 1].
        rule: thresholds.
    """
    reason = _unfit_reason(modal, rule)
    if reason is not None:
        return reason
    if not confidence >= rule.least_confidence:
        return "low confidence"
    both, either = int((modal & amodal).sum()), int((modal | amodal).sum())
    if both < rule.least_iou * either or int((amodal & ~modal).sum()) > rule.most_added * int(amodal.sum()):
        return "occluded"
    return None


def _unfit_reason(modal: BoolArray, rule: PoolRule) -> str | None:
    """Why a mask is no object to cut out, whatever the prediction; None if it is one."""
    box = tight_box(modal)
    if box is None or int(modal.sum()) < rule.least_area:
        return "too small"
    (height, width), (top, left, bottom, right) = modal.shape, box
    if min(top, left, height - bottom, width - right) < rule.border:
        return "at the border"
    labels, number = ndimage.label(modal, structure=np.ones((3, 3)))
    largest = int(np.bincount(labels.ravel())[1:].max())
    if number > 1 and largest < rule.least_component * int(modal.sum()):
        return "several parts"
    return None


def complete_objects(
    images: Iterable[SourceImage], root: Path, predictor: Predictor, rule: PoolRule | None = None
) -> Pool:
    """Find the objects that nothing occludes: their predicted amodal mask is the annotated one.

    Args:
        images: annotated images.
        root: root of the images.
        predictor: predicts the amodal masks from the boxes of the annotated ones, such as a trained SAMEO.
        rule: thresholds.

    Raises:
        InputError: if an image is missing or a mask is damaged.
    """
    rule = rule or PoolRule()
    kept: list[SourceImage] = []
    reasons: Counter[str] = Counter()
    for image in images:
        fit: list[tuple[SourceObject, BoolArray]] = []
        for found in image.objects:
            modal = decode_rle(found.mask)
            reason = _unfit_reason(modal, rule)
            if reason is None:
                fit.append((found, modal))
            else:
                reasons[reason] += 1
        if not fit:
            continue
        boxes = np.array([_corners(modal) for _, modal in fit], dtype=np.float32)
        complete = []
        for (found, modal), (amodal, confidence) in zip(fit, predictor(_read(root, image), boxes), strict=True):
            reason = incomplete_reason(modal, amodal, confidence, rule)
            if reason is None:
                complete.append(found)
            else:
                reasons[reason] += 1
        if complete:
            kept.append(SourceImage(image.number, image.file_name, image.size, complete))
    return Pool(kept, reasons)


def synthesize(pool: Pool, root: Path, output: Path, settings: SynthesisSettings | None = None) -> Counter[str]:
    """Write occluded images, their untouched twins, and ``annotations.json`` in the layout of KINS.

    An interrupted call leaves pictures without annotations; the same call writes them again, to the byte.

    Args:
        pool: complete objects.
        root: root of the pool's images.
        output: folder; made if needed.
        settings: what is made.

    Returns:
        number of rejected pairs by reason.

    Raises:
        InputError: if the folder has annotations already, the pool cannot be paired, or too many pairs in a row are
            rejected.
    """
    settings = settings or SynthesisSettings()
    if (output / ANNOTATIONS).exists():
        raise InputError(f"{output}: has {ANNOTATIONS} already; choose another folder, nothing is overwritten")
    if len(pool.images) < 2:
        raise InputError(
            f"pool: expected complete objects in at least 2 images, got {pool.size} in {len(pool.images)}; give more "
            "images or a rule that keeps more"
        )
    (output / "images").mkdir(parents=True, exist_ok=True)
    rejected: Counter[str] = Counter()
    with replacing_file(output / ANNOTATIONS) as partial, partial.open("w", encoding="utf-8") as file:
        writer = _Writer(file)
        for number in range(settings.count):
            made = _draw(pool, root, settings, Rng(settings.seed, number), rejected)
            for kind in ("untouched", "occluded"):
                name = f"images/{number:06d}_{kind}.{settings.picture_format}"
                picture = Image.fromarray(made.untouched_rgb if kind == "untouched" else made.occluded_rgb)
                picture.save(output / name, quality=95)
                writer.add(name, kind, made, settings)
        categories = {found.category for image in pool.images for found in image.objects}
        writer.close(sorted(categories))
    return rejected


@dataclass(frozen=True)
class Pair:
    """An occluded image and its untouched twin.

    Attributes:
        untouched_rgb: the target's image, uint8 ``[H, W, 3]``.
        occluded_rgb: the same with the occluder, uint8 ``[H, W, 3]``.
        target: the target's mask, bool ``[H, W]``: amodal in both images.
        occluder: the occluder's mask inside the image, bool ``[H, W]``.
        neighbors: masks of the other complete objects of the image with their annotations.
        sources: ids of images, annotations and categories of target and occluder.
        placement: where the occluder is, in pixels, and the drawn and reached rate.
        scale: new side over old side of the occluder.
    """

    untouched_rgb: UInt8Array
    occluded_rgb: UInt8Array
    target: BoolArray
    occluder: BoolArray
    neighbors: Sequence[tuple[SourceObject, BoolArray]]
    sources: Mapping[str, Mapping[str, int]]
    placement: Placement
    scale: float


def make_pair(
    target: tuple[SourceImage, SourceObject],
    occluder: tuple[SourceImage, SourceObject],
    root: Path,
    settings: SynthesisSettings,
    rng: Rng,
) -> Pair | str:
    """Make an occluded image and its twin, or say why these objects give none.

    Args:
        target: image and object that is occluded; the image stays whole.
        occluder: image and object that is cut out.
        root: root of the images.
        settings: scale, rate and placement.
        rng: draws them.

    Raises:
        InputError: if an image cannot be read.
    """
    image, wanted = target
    amodal = decode_rle(wanted.mask)
    rule = settings.rule
    whole = cut_out(_read(root, occluder[0]), decode_rle(occluder[1].mask))
    cutout = scale_cutout(whole, int(amodal.sum()), rng.uniform(*rule.scale), rule)
    if cutout is None:
        return "enlarged too much"
    placement = place_occluder(amodal, cutout.mask, rule, rng=rng)
    if placement is None:
        return "rate out of reach"
    there = shift_mask(cutout.mask, placement.row, placement.column, image.size)
    neighbors = [(found, decode_rle(found.mask)) for found in image.objects if found is not wanted]
    if any(int((mask & there).sum()) > rule.largest_neighbor_share * int(mask.sum()) for _, mask in neighbors):
        return "hides a neighbor"
    rgb = _read(root, image)
    sources = {
        role: {"image_id": where.number, "annotation_id": found.number, "category_id": found.category}
        for role, (where, found) in (("target", target), ("occluder", occluder))
    }
    scale = cutout.mask.shape[0] / whole.mask.shape[0]
    pasted = paste(rgb, cutout, placement, feather=settings.feather)
    return Pair(rgb, pasted, amodal, there, neighbors, sources, placement, scale)


def _draw(pool: Pool, root: Path, settings: SynthesisSettings, rng: Rng, rejected: Counter[str]) -> Pair:
    """Draw pairs until one fits."""
    for _ in range(_TRIES):
        first, second = rng.choice(pool.images), rng.choice(pool.images)
        target, occluder = rng.choice(first.objects), rng.choice(second.objects)
        if first.number == second.number:
            rejected["same image"] += 1
        elif target.category == occluder.category and not settings.same_category:
            rejected["same category"] += 1
        else:
            made = make_pair((first, target), (second, occluder), root, settings, rng)
            if isinstance(made, Pair):
                return made
            rejected[made] += 1
    told = ", ".join(f"{reason} {number}" for reason, number in rejected.most_common())
    raise InputError(
        f"pool: {_TRIES} pairs in a row were rejected (in all: {told}); give more objects, or a wider range of scale "
        "and rate"
    )


class _Writer:
    """``annotations.json``, written as the images are made."""

    def __init__(self, file: Any) -> None:  # noqa: ANN401 - a text file
        self._file = file
        self._images: list[dict[str, object]] = []
        self._written = 0
        file.write('{"annotations": [')

    def add(self, name: str, kind: str, made: Pair, settings: SynthesisSettings) -> None:
        """Write the objects of an image: target, occluder, and other complete objects."""
        image = len(self._images) + 1
        height, width = made.target.shape
        about = {"kind": kind, "seed": settings.seed, "sources": made.sources}
        twin = image + 1 if kind == "untouched" else image - 1
        if kind == "occluded":
            about |= {"placement": asdict(made.placement), "scale": made.scale}
        self._images.append(
            {"id": image, "file_name": name, "height": height, "width": width, "twin": twin, "synthesis": about}
        )
        front = made.occluder if kind == "occluded" else np.zeros_like(made.occluder)
        self._object(image, made.sources["target"]["category_id"], made.target, front, role="target")
        if kind == "occluded":
            category = made.sources["occluder"]["category_id"]
            self._object(image, category, made.occluder, np.zeros_like(front), role="occluder")
        for found, mask in made.neighbors:
            self._object(image, found.category, mask, front, role="neighbor")

    def _object(self, image: int, category: int, amodal: BoolArray, front: BoolArray, *, role: str) -> None:
        whole, visible = encode_rle(amodal), encode_rle(amodal & ~front)
        entry = {
            "id": self._written + 1,
            "image_id": image,
            "category_id": category,
            "iscrowd": 0,
            "role": role,
            "a_segm": whole,
            "i_segm": visible,
            "a_bbox": rle_box(whole),
            "i_bbox": rle_box(visible),
            "area": rle_area(whole),
        }
        self._file.write((",\n" if self._written else "\n") + json.dumps(entry, separators=(",", ":")))
        self._written += 1

    def close(self, categories: Sequence[int]) -> None:
        rest = {"images": self._images, "categories": [{"id": number, "name": str(number)} for number in categories]}
        self._file.write("\n],\n" + json.dumps(rest)[1:] + "\n")


def _read(root: Path, image: SourceImage) -> UInt8Array:
    """An image of the file; LVIS's folder of the split, such as ``train2017``, may be missing.

    Raises:
        InputError: if it is missing or has another size.
    """
    path = find_frame(root, image.file_name) or find_frame(root, Path(image.file_name).name)
    if path is None:
        raise InputError(f"{root / image.file_name}: no such file; give the root of the images")
    return read_frame(path, image.size)


def _corners(mask: BoolArray) -> tuple[int, int, int, int]:
    """Left, top, right, bottom of a mask that is not empty."""
    x, y, width, height = rle_box(encode_rle(mask))
    return int(x), int(y), int(x + width), int(y + height)


def _entry(entry: object, where: str) -> Mapping[str, Any]:
    if not isinstance(entry, Mapping):
        raise InputError(f"{where}: expected an object, got {type(entry).__name__}")
    return entry


def _whole(entry: Mapping[str, Any], key: str, where: str) -> int:
    value = entry.get(key)
    if not isinstance(value, int) or isinstance(value, bool):
        raise InputError(f"{where}: {key}: expected an integer, got {value!r:.40}")
    return value
