"""Amodal-LVIS: reading, the pool of complete objects, twins, reproducibility."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from amodal_diffusion.basics import InputError
from amodal_diffusion.data.amodal_images import AmodalImageIndex
from amodal_diffusion.data.amodal_lvis import (
    Pool,
    PoolRule,
    SourceObject,
    SynthesisSettings,
    complete_objects,
    incomplete_reason,
    read_lvis,
    synthesize,
)
from amodal_diffusion.frames.masks import decode_rle
from amodal_diffusion.types import BoolArray, FloatArray, UInt8Array

SIZE = (96, 128)


def box(top: int, left: int, bottom: int, right: int) -> BoolArray:
    mask = np.zeros(SIZE, dtype=np.bool_)
    mask[top:bottom, left:right] = True
    return mask


def polygon(top: int, left: int, bottom: int, right: int) -> list[list[int]]:
    return [[left, top, right, top, right, bottom, left, bottom]]


@pytest.fixture
def lvis(tmp_path: Path) -> Path:
    """Four images with two objects each, the first of LVIS's form; a crowd and an empty object are left out."""
    (tmp_path / "train2017").mkdir()
    images: list[dict[str, object]] = []
    annotations: list[dict[str, object]] = []
    for number in range(1, 5):
        rgb = np.random.default_rng(number).integers(0, 255, (*SIZE, 3), dtype=np.uint8)
        Image.fromarray(rgb).save(tmp_path / f"train2017/{number:012d}.png")
        about = {"id": number, "height": SIZE[0], "width": SIZE[1]}
        url = f"http://images.cocodataset.org/train2017/{number:012d}.png"
        images.append(
            {**about, "coco_url": url} if number == 1 else {**about, "file_name": f"train2017/{number:012d}.png"}
        )
        for place, corners in enumerate(((10, 10 + number, 50, 55), (20, 80, 70, 120))):
            annotations.append(
                {
                    "id": 10 * number + place,
                    "image_id": number,
                    "category_id": 1 + place,
                    "segmentation": polygon(*corners),
                }
            )
    annotations.append({"id": 91, "image_id": 1, "category_id": 1, "segmentation": polygon(1, 1, 5, 5), "iscrowd": 1})
    annotations.append({"id": 92, "image_id": 1, "category_id": 1, "segmentation": []})
    path = tmp_path / "lvis.json"
    path.write_text(json.dumps({"images": images, "annotations": annotations}))
    return path


def boxes_are_masks(_: UInt8Array, boxes: FloatArray) -> Iterator[tuple[BoolArray, float]]:
    """Predicts that every object is its box, except that one at column 80 goes on to the right."""
    for left, top, right, bottom in boxes.astype(int):
        yield box(top, left, bottom, right + (6 if left == 80 else 0)), 0.9


def pool_of(lvis: Path) -> Pool:
    everything = PoolRule(least_iou=0.5, most_added=0.5)
    return complete_objects(read_lvis(lvis), lvis.parent, boxes_are_masks, everything)


def test_an_lvis_file_is_read(lvis: Path) -> None:
    images = list(read_lvis(lvis))
    assert [image.file_name for image in images] == [f"train2017/{number:012d}.png" for number in range(1, 5)]
    assert [[found.number for found in image.objects] for image in images] == [
        [10 * n, 10 * n + 1] for n in range(1, 5)
    ]
    assert np.array_equal(decode_rle(images[0].objects[0].mask), box(10, 11, 50, 55))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image_id": 99}, r"annotations: 0: image_id: expected one of the 4 images, got 99"),
        (
            {"segmentation": {"size": [5, 5], "counts": [25]}},
            r"annotations: 0: segmentation: expected run lengths of size",
        ),
        ({"category_id": None}, r"annotations: 0: category_id: expected an integer"),
    ],
)
def test_a_wrong_annotation_is_named(lvis: Path, change: dict[str, object], message: str) -> None:
    content = json.loads(lvis.read_text())
    content["annotations"][0] |= change
    lvis.write_text(json.dumps(content))
    with pytest.raises(InputError, match=message):
        list(read_lvis(lvis))


def test_complete_objects_are_those_whose_amodal_mask_is_the_annotated(lvis: Path) -> None:
    pool = complete_objects(read_lvis(lvis), lvis.parent, boxes_are_masks)
    assert pool.size == 4
    assert pool.reasons == {"occluded": 4}
    assert [found.number for image in pool.images for found in image.objects] == [10, 20, 30, 40]


@pytest.mark.parametrize(
    ("modal", "amodal", "confidence", "reason"),
    [
        (box(5, 5, 45, 45), box(5, 5, 45, 45), 0.8, None),
        (box(5, 5, 45, 45), box(5, 5, 45, 45), 0.79, "low confidence"),
        (box(5, 5, 45, 45), box(5, 5, 45, 45), float("nan"), "low confidence"),
        (box(5, 5, 45, 45), box(5, 5, 45, 48), 0.9, "occluded"),
        (box(5, 5, 45, 45), box(5, 5, 45, 40), 0.9, "occluded"),
        (box(5, 5, 36, 36), box(5, 5, 36, 36), 0.9, "too small"),
        (box(1, 5, 45, 45), box(1, 5, 45, 45), 0.9, "at the border"),
        (box(5, 5, 45, 45) | box(60, 60, 75, 75), box(5, 5, 45, 45), 0.9, "several parts"),
    ],
)
def test_the_rule_of_the_pool(modal: BoolArray, amodal: BoolArray, confidence: float, reason: str | None) -> None:
    assert incomplete_reason(modal, amodal, confidence, PoolRule()) == reason


def test_each_composite_has_its_untouched_twin(lvis: Path, tmp_path: Path) -> None:
    output = tmp_path / "made"
    rejected = synthesize(pool_of(lvis), lvis.parent, output, SynthesisSettings(count=6, picture_format="png"))
    assert isinstance(rejected, Counter)
    content = json.loads((output / "annotations.json").read_text())
    images = {image["id"]: image for image in content["images"]}
    assert len(images) == 12
    for image in images.values():
        twin = images[image["twin"]]
        assert twin["twin"] == image["id"]
        assert {image["synthesis"]["kind"], twin["synthesis"]["kind"]} == {"untouched", "occluded"}
        assert image["synthesis"]["sources"] == twin["synthesis"]["sources"]
        if image["synthesis"]["kind"] == "untouched":
            continue
        target, front = (_masks(content, image["id"], role) for role in ("target", "occluder"))
        untouched = _masks(content, twin["id"], "target")
        assert np.array_equal(target["a_segm"], untouched["a_segm"])
        assert np.array_equal(untouched["i_segm"], untouched["a_segm"])
        assert not (target["i_segm"] & ~target["a_segm"]).any()
        assert not (target["i_segm"] & front["i_segm"]).any()
        assert np.array_equal(front["i_segm"], front["a_segm"])
        placement = image["synthesis"]["placement"]
        assert 1 - target["i_segm"].sum() / target["a_segm"].sum() == pytest.approx(placement["rate"])
        assert abs(placement["rate"] - placement["drawn_rate"]) <= 0.05
        one, other = (np.array(Image.open(output / found["file_name"])) for found in (image, twin))
        outside = ~front["a_segm"]
        assert np.array_equal(one[outside], other[outside])
        assert not np.array_equal(one, other)
    index = AmodalImageIndex(output / "annotations.json")
    assert len(index) >= 18  # two targets and an occluder of each pair, and neighbors
    assert index.object(0).size == SIZE


def _masks(content: dict[str, list[dict[str, object]]], image: int, role: str) -> dict[str, BoolArray]:
    (found,) = [entry for entry in content["annotations"] if entry["image_id"] == image and entry["role"] == role]
    return {key: decode_rle(found[key]) for key in ("a_segm", "i_segm")}  # type: ignore[arg-type]  # as written


def test_an_image_depends_on_seed_and_number_alone(lvis: Path, tmp_path: Path) -> None:
    pool = pool_of(lvis)
    for name, count, seed in (("one", 3, 0), ("two", 2, 0), ("other", 2, 1)):
        synthesize(pool, lvis.parent, tmp_path / name, SynthesisSettings(count=count, seed=seed))
    one, two, other = (
        (tmp_path / name / "images/000001_occluded.jpg").read_bytes() for name in ("one", "two", "other")
    )
    assert one == two
    assert one != other
    with pytest.raises(InputError, match=r"has annotations\.json already"):
        synthesize(pool, lvis.parent, tmp_path / "one", SynthesisSettings(count=1))


def test_a_pool_that_cannot_be_paired_is_one_line(lvis: Path, tmp_path: Path) -> None:
    pool = pool_of(lvis)
    with pytest.raises(InputError, match="pool: expected complete objects in at least 2 images, got 2 in 1"):
        synthesize(Pool(pool.images[:1], Counter()), lvis.parent, tmp_path / "a")
    alike = SynthesisSettings(count=1, same_category=False)
    objects = [SourceObject(found.number, 1, found.mask) for image in pool.images for found in image.objects]
    same = [type(image)(image.number, image.file_name, image.size, objects[:1]) for image in pool.images]
    with pytest.raises(InputError, match=r"pool: 20 pairs in a row were rejected .* same category"):
        synthesize(Pool(same, Counter()), lvis.parent, tmp_path / "b", alike)
    assert not (tmp_path / "b/annotations.json").exists()
    with pytest.raises(InputError, match="synthesis: expected a count of at least 1"):
        SynthesisSettings(count=0)
