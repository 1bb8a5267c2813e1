"""SAMEO on image files: any detector's boxes refined to COCO amodal results, and occluded images built with it."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from amodal_diffusion.basics import STAGES, InputError
from amodal_diffusion.data.amodal_lvis import (
    ANNOTATIONS,
    PoolRule,
    Predictor,
    SourceImage,
    SynthesisSettings,
    complete_objects,
    read_lvis,
    synthesize,
)
from amodal_diffusion.data.detections import DetectedImage, read_detections
from amodal_diffusion.data.sailvos import read_frame
from amodal_diffusion.frames.masks import encode_rle
from amodal_diffusion.io.atomic import write_text
from amodal_diffusion.models.sameo.saving import METHOD
from amodal_diffusion.pipelines.methods import DEFAULT_MODEL, StageNames
from amodal_diffusion.pipelines.sameo import SameoSegmenter, combined_score
from amodal_diffusion.types import BoolArray, FloatArray, UInt8Array


def open_sameo(
    model: str | Path = DEFAULT_MODEL, *, base: Path | None = None, device: str = "auto", yes: bool = False
) -> SameoSegmenter:
    """Load SAMEO as the commands `refine` and `synthesize` do.

    Args:
        model: folder or hub id of a checkpoint; ``"tiny"`` is the bundled one.
        base: pretrained weights below a checkpoint of a mask decoder, if they are not where it says.
        device: as for :func:`~amodal_diffusion.models.weights.find_device`.
        yes: download without asking.

    Raises:
        InputError: if the checkpoint is of another method, cannot be loaded, or may not be downloaded.
    """
    _, folders = StageNames(model, method=METHOD, stages=STAGES[:1]).find(yes=yes)
    return SameoSegmenter.from_folder(folders["amodal_segmentation"], base=base, device=device)


def check_refinement(detections: Path, images: Path, output: Path) -> list[DetectedImage]:
    """Read what :func:`refine_images` takes, and check it.

    Args:
        detections: COCO results or annotations with boxes, see `read_detections`.
        images: folder of the images.
        output: file that must not exist.

    Raises:
        InputError: if the output exists, or an input is wrong.
    """
    if output.exists():
        raise InputError(f"{output}: exists; choose another file, nothing is overwritten")
    return list(read_detections(detections, images))


def refine_images(
    found: Sequence[DetectedImage],
    output: Path,
    segmenter: SameoSegmenter,
    *,
    progress: Callable[[int, int], None] | None = None,
) -> int:
    """Refine detections; the work of ``amodal-diffusion refine``.

    Args:
        found: from :func:`check_refinement`.
        output: file for the COCO results, written whole or not at all.
        segmenter: predicts the masks.
        progress: called with the number of finished images, and of all.

    Returns:
        number of results.

    Raises:
        InputError: if an image cannot be read; nothing is written then.
    """
    results: list[dict[str, Any]] = []
    for number, image in enumerate(found):
        results.extend(refine_image(image, segmenter))
        if progress is not None:
            progress(number + 1, len(found))
    output.parent.mkdir(parents=True, exist_ok=True)
    write_text(output, "[\n" + ",\n".join(json.dumps(entry) for entry in results) + "\n]\n")
    return len(results)


def refine_image(image: DetectedImage, segmenter: SameoSegmenter) -> list[dict[str, Any]]:
    """Amodal masks of one image's detections.

    Args:
        image: path, size and detections.
        segmenter: predicts the masks; boxes are clipped to the image for the prompt.

    Returns:
        for each detection a COCO result with ``segmentation`` (run lengths), ``score`` (front end's times predicted
        IoU), and ``front_score``, ``front_bbox`` and ``predicted_iou``. There is no ``bbox``, as pycocotools would
        take its area for that of the mask.

    Raises:
        InputError: if the image cannot be read.
    """
    height, width = image.size
    rgb = read_frame(image.path, image.size)
    corners = np.array([found.corners for found in image.detections])
    clipped = np.clip(corners, 0, [width, height, width, height])
    results = []
    for found, answer in zip(image.detections, segmenter.segment(rgb, clipped), strict=True):
        rle = encode_rle(answer.probability > segmenter.sampling.mask_threshold)
        results.append(
            {
                "image_id": found.image_id,
                "category_id": found.category_id,
                **found.extra,
                "segmentation": rle,
                "score": combined_score(found.score, answer.iou),
                "front_score": found.score,
                "front_bbox": list(found.box),
                "predicted_iou": answer.iou,
            }
        )
    return results


def mask_predictor(segmenter: SameoSegmenter) -> Predictor:
    """A segmenter as the Amodal-LVIS builder takes it, see `data.amodal_lvis.complete_objects`."""

    def predict(rgb: UInt8Array, boxes: FloatArray) -> Iterator[tuple[BoolArray, float]]:
        for answer in segmenter.segment(rgb, boxes):
            yield answer.probability > segmenter.sampling.mask_threshold, answer.iou

    return predict


def check_synthesis(annotations: Path, images: Path, output: Path) -> list[SourceImage]:
    """Read what :func:`synthesize_images` takes, and check it.

    Args:
        annotations: LVIS or COCO file.
        images: root of its images.
        output: folder, which must not hold annotations.

    Raises:
        InputError: if an input is missing or wrong, or the output holds annotations.
    """
    if (output / ANNOTATIONS).exists():
        raise InputError(f"{output}: has {ANNOTATIONS} already; choose another folder, nothing is overwritten")
    if not annotations.is_file():
        raise InputError(f"{annotations}: expected an LVIS or COCO file, found none; check the path")
    if not images.is_dir():
        raise InputError(f"{images}: expected the folder of the images, found none; check the path")
    return list(read_lvis(annotations))


def synthesize_images(
    sources: Sequence[SourceImage],
    images: Path,
    output: Path,
    segmenter: SameoSegmenter,
    settings: SynthesisSettings | None = None,
    rule: PoolRule | None = None,
) -> dict[str, Counter[str]]:
    """Build occluded images; the work of ``amodal-diffusion synthesize``.

    Args:
        sources: from :func:`check_synthesis`.
        images: root of the images.
        output: folder for images and ``annotations.json``.
        segmenter: finds the complete objects.
        settings: what is made.
        rule: which objects count as complete.

    Returns:
        number of objects left out of the pool, and of rejected pairs, by reason.

    Raises:
        InputError: as `data.amodal_lvis.synthesize`.
    """
    pool = complete_objects(sources, images, mask_predictor(segmenter), rule)
    return {"objects": pool.reasons, "pairs": synthesize(pool, images, output, settings)}
