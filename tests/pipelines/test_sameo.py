"""SAMEO from clip to masks, and from a detector's boxes to amodal results."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pycocotools.coco import COCO

from amodal_diffusion.basics import InputError
from amodal_diffusion.data.amodal_lvis import SynthesisSettings
from amodal_diffusion.models.sameo import Sameo, SameoSampling
from amodal_diffusion.pipelines.refinement import check_refinement, check_synthesis, refine_images, synthesize_images
from amodal_diffusion.pipelines.sameo import SameoSegmenter, combined_score
from amodal_diffusion.types import VideoClip
from tests.sameo import EFFICIENT, TINY


@pytest.fixture(scope="module")
def segmenter() -> SameoSegmenter:
    return SameoSegmenter(Sameo(TINY))


def clip_of(frames: int = 4, height: int = 33, width: int = 47) -> VideoClip:
    rgb = np.random.default_rng(0).integers(0, 255, (frames, height, width, 3), dtype=np.uint8)
    mask = np.zeros((frames, height, width), dtype=np.bool_)
    for index in range(frames):
        mask[index, 2:11, 1 + index : 10 + index] = True
    return VideoClip(rgb, mask, cuts="none")


# ---- clips ----


@pytest.mark.parametrize("size", [(33, 47), (5, 3), (1, 1), (90, 8)])
@pytest.mark.parametrize("config", [TINY, EFFICIENT], ids=["sam", "efficient_sam"])
def test_any_size_gives_masks_of_the_frames(config: object, size: tuple[int, int]) -> None:
    modal = np.zeros((2, *size), dtype=np.bool_)
    modal[:, : min(size[0], 9), : min(size[1], 9)] = True
    clip = VideoClip(np.random.default_rng(0).integers(0, 255, (2, *size, 3), dtype=np.uint8), modal, cuts="none")
    found = SameoSegmenter(Sameo(config))(clip)  # type: ignore[arg-type]  # either
    assert found.mask.shape == found.probability.shape == (2, *size)
    assert (found.mask.dtype, found.probability.dtype, found.score.dtype) == (np.bool_, np.float32, np.float32)
    assert found.valid.tolist() == [True, True]
    assert 0 <= found.probability.min() <= found.probability.max() <= 1
    assert ((found.score >= 0) & (found.score <= 1)).all()
    assert (found.mask >= modal).all()


def test_a_frame_without_a_visible_pixel_has_no_evidence(segmenter: SameoSegmenter) -> None:
    clip = clip_of()
    hidden = clip.modal_mask.copy()
    hidden[1] = False
    found = segmenter(VideoClip(clip.rgb, hidden, cuts="none"))
    assert found.valid.tolist() == [True, False, True, True]
    assert not found.mask[1].any()
    assert not found.probability[1].any()
    assert found.score[1] == 0
    bridged = SameoSegmenter(segmenter.model, SameoSampling(gap="interpolate"))
    found = bridged(VideoClip(clip.rgb, hidden, cuts="none"))
    assert found.valid.all()
    assert found.probability[1].any()
    hidden[2:] = False
    found = bridged(VideoClip(clip.rgb, hidden, cuts=(2,)))  # nothing shows where to look in the second shot
    assert found.valid.tolist() == [True, True, False, False]
    assert not found.mask[2:].any()


def test_frames_together_equal_frames_alone(segmenter: SameoSegmenter) -> None:
    clip = clip_of()
    together = SameoSegmenter(segmenter.model, SameoSampling(frames_at_once=3))(clip)
    alone = segmenter(clip)
    assert np.allclose(together.probability, alone.probability, atol=1e-5)
    assert np.array_equal(alone.probability, segmenter(clip).probability)
    one = segmenter(VideoClip(clip.rgb[2:3], clip.modal_mask[2:3], cuts="none"))
    assert np.array_equal(one.probability[0], alone.probability[2])


def test_another_methods_masks_give_the_boxes(segmenter: SameoSegmenter) -> None:
    clip, refining = clip_of(), SameoSegmenter(segmenter.model, SameoSampling(box_source="amodal_hint"))
    assert np.array_equal(refining(clip, amodal_hint=clip.modal_mask).probability, segmenter(clip).probability)
    larger = np.zeros_like(clip.modal_mask)
    larger[:, :20, :30] = True
    found = refining(clip, amodal_hint=larger)
    assert not np.array_equal(found.probability, segmenter(clip).probability)
    assert (found.mask >= clip.modal_mask).all()
    with pytest.raises(InputError, match=r"amodal_hint: expected masks \[4, 33, 47\] .*, got none"):
        refining(clip)


def test_the_score_is_the_product_of_both_cut_to_the_unit_range() -> None:
    assert combined_score(0.5, 0.5) == 0.25
    assert combined_score(0.5, 1.7) == 0.5
    assert combined_score(0.5, -0.2) == 0
    assert combined_score(3.0, 0.5) == 0.5
    assert combined_score(float("nan"), 0.5) == combined_score(0.5, float("nan")) == 0
    values = np.linspace(-0.5, 1.5, 9)
    for fixed in (0.0, 0.4, 1.0):
        for scores in ([combined_score(fixed, value) for value in values], [combined_score(v, fixed) for v in values]):
            assert scores == sorted(scores)


# ---- detections ----


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    folder = tmp_path / "images"
    folder.mkdir()
    for number, (height, width) in ((7, (40, 60)), (12, (50, 30))):
        rgb = np.random.default_rng(number).integers(0, 255, (height, width, 3), dtype=np.uint8)
        Image.fromarray(rgb).save(folder / f"{number:012d}.png")
    return folder


def detections(tmp_path: Path, entries: object) -> Path:
    path = tmp_path / "detections.json"
    path.write_text(json.dumps(entries))
    return path


BOX = {"image_id": 7, "category_id": 3, "bbox": [5, 6, 20, 10], "score": 0.8}


def test_detections_become_results_that_pycocotools_reads(
    tmp_path: Path, pictures: Path, segmenter: SameoSegmenter
) -> None:
    entries = [BOX, {**BOX, "bbox": [-4, 30, 30, 20.5]}, {"image_id": 12, "bbox": [1, 1, 9, 9]}]
    output = tmp_path / "out/results.json"
    told: list[tuple[int, int]] = []
    path = detections(tmp_path, entries)
    checked = check_refinement(path, pictures, output)
    assert refine_images(checked, output, segmenter, progress=lambda done, of: told.append((done, of))) == 3
    assert told == [(1, 2), (2, 2)]
    results = json.loads(output.read_text())
    assert [result["front_bbox"] for result in results] == [[5, 6, 20, 10], [-4, 30, 30, 20.5], [1, 1, 9, 9]]
    assert [result["segmentation"]["size"] for result in results] == [[40, 60], [40, 60], [50, 30]]
    for result, front in zip(results, (0.8, 0.8, 1.0), strict=True):
        assert result["score"] == pytest.approx(front * result["predicted_iou"])
        assert 0 <= result["score"] <= 1
    images = [{"id": 7, "height": 40, "width": 60, "file_name": "000000000007.png"}]
    images.append({"id": 12, "height": 50, "width": 30, "file_name": "000000000012.png"})
    truth = COCO()
    truth.dataset = {"images": images, "categories": [{"id": 1}, {"id": 3}], "annotations": []}
    truth.createIndex()
    loaded = truth.loadRes(str(output))
    for found in loaded.dataset["annotations"]:
        assert int(loaded.annToMask(found).sum()) == int(found["area"])
    with pytest.raises(InputError, match="exists; choose another file"):
        check_refinement(path, pictures, output)
    again = detections(
        tmp_path, {"images": images, "annotations": [{**result, "bbox": [2, 2, 9, 9]} for result in results]}
    )
    output = tmp_path / "again.json"
    assert refine_images(check_refinement(again, pictures, output), output, segmenter) == 3


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ([BOX, {**BOX, "bbox": [5, 5, 0, 3]}], r"json: 1: bbox: expected .* an area above 0, got \[5, 5, 0, 3\]"),
        ([BOX, {**BOX, "bbox": [9, 9, -4, 5]}], "json: 1: bbox: .* area above 0"),
        ([BOX, {**BOX, "bbox": [60, 5, 4, 5]}], r"json: 1: bbox: .* in the image of 60x40 pixels.* lies outside"),
        (
            [{**BOX, "bbox": [30, 20, 58, 38]}, {**BOX, "bbox": [40, 3, 50, 9]}],
            r"json: 0: bbox: .* seems to be \[x0, y0, x1, y1\]",
        ),
        ([{**BOX, "bbox": [1, 2, 3]}], r"json: 0: bbox: expected \[x, y, width, height\]"),
        ([{**BOX, "bbox": [1, 2, 3, "4"]}], r"json: 0: bbox: expected \[x, y, width, height\]"),
        ([{**BOX, "image_id": 8}], "json: 0: image 8: no such image"),
        ([{**BOX, "image_id": None}], "json: 0: image_id: expected a number or a name"),
        ([{**BOX, "score": "high"}], "json: 0: score: expected a number"),
        ([{**BOX, "category_id": "cat"}], "json: 0: category_id: expected an integer"),
        ({"boxes": []}, "expected a list of"),
        ([3], "json: 0: expected an object"),
    ],
)
def test_a_wrong_box_is_one_line_that_names_the_first(
    tmp_path: Path, pictures: Path, entries: object, message: str
) -> None:
    with pytest.raises(InputError, match=message) as error:
        check_refinement(detections(tmp_path, entries), pictures, tmp_path / "results.json")
    assert "\n" not in str(error.value)


def test_the_builder_takes_the_segmenter(tmp_path: Path, pictures: Path, segmenter: SameoSegmenter) -> None:
    size = [[7, 40, 60], [12, 50, 30]]
    images = [{"id": n, "height": h, "width": w, "file_name": f"{n:012d}.png"} for n, h, w in size]
    square = {"iscrowd": 0, "category_id": 1, "segmentation": [[4, 4, 24, 4, 24, 24, 4, 24]]}
    path = detections(
        tmp_path, {"images": images, "annotations": [{**square, "id": n, "image_id": n} for n in (7, 12)]}
    )
    sources = check_synthesis(path, pictures, tmp_path / "made")
    # The random network agrees with no mask, or the squares are too small: nothing is left to pair.
    with pytest.raises(InputError, match="pool: expected complete objects in at least 2 images, got 0 in 0"):
        synthesize_images(sources, pictures, tmp_path / "made", segmenter, SynthesisSettings(count=1))


def test_many_boxes_are_answered_in_parts(segmenter: SameoSegmenter) -> None:
    rgb = np.random.default_rng(0).integers(0, 255, (40, 60, 3), dtype=np.uint8)
    boxes = np.array([[index, 2.0, index + 9, 20] for index in range(5)])
    parts = SameoSegmenter(segmenter.model, replace(segmenter.sampling, boxes_at_once=2))
    for one, other in zip(segmenter.segment(rgb, boxes), parts.segment(rgb, boxes), strict=True):
        assert np.allclose(one.probability, other.probability, atol=1e-5)
        assert one.iou == pytest.approx(other.iou, abs=1e-5)
