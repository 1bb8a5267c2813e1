"""Sam2Segmenter with the real SAM 2 and EdgeTAM classes at tiny size, held against the library's own way."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from transformers.models.sam2_video.processing_sam2_video import Sam2VideoProcessor

from amodal_diffusion.basics import InputError
from amodal_diffusion.frames.masks import encode_rle
from amodal_diffusion.io.prompts import Box, MaskPrompt, Point, Prompts, Stroke
from amodal_diffusion.models.segmenters.loading import load_segmenter
from amodal_diffusion.models.segmenters.preprocessing import Preprocessing, masks_from_logits
from amodal_diffusion.models.segmenters.protocol import segment_frames
from amodal_diffusion.models.segmenters.sam2 import Sam2Segmenter
from amodal_diffusion.types import BoolArray, UInt8Array
from tests.segmenters import SIZE, tiny_edgetam, tiny_sam2, tiny_segmenter_folder

NETWORKS: dict[str, Callable[[], Any]] = {"Sam2": tiny_sam2, "EdgeTam": tiny_edgetam}
PREPROCESSING = Preprocessing(SIZE, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
CLIP = np.random.default_rng(0).integers(0, 256, (14, 30, 50, 3), dtype=np.uint8)
HEIGHT, WIDTH = CLIP.shape[1:3]


@pytest.fixture(scope="module", params=NETWORKS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def network(kind: str) -> Any:
    return NETWORKS[kind]()


def session_class(kind: str) -> type[Any]:
    return getattr(transformers, f"{kind}VideoInferenceSession")


def segment(kind: str, network: Any, prompts: Prompts) -> dict[str, BoolArray]:
    return segment_frames(CLIP, prompts, Sam2Segmenter(network, session_class(kind), PREPROCESSING))


def by_the_library(
    kind: str, network: Any, points: dict[int, list[tuple[float, float, int]]], boxes: dict[int, list[float]]
) -> BoolArray:
    """One object with the whole clip in a session, prompts through the processor, and both ways of propagation."""
    pixels = torch.stack([PREPROCESSING.normalise(PREPROCESSING.shrink(rgb)) for rgb in CLIP])
    session = session_class(kind)(video=pixels, video_height=HEIGHT, video_width=WIDTH, dtype=torch.float32)
    processor = object.__new__(Sam2VideoProcessor)  # its own constructor asks for torchvision
    processor.target_size, processor.point_pad_value = SIZE, -10
    for frame in sorted(points.keys() | boxes.keys()):
        given = points.get(frame, [])
        processor.process_new_points_or_boxes_for_video_frame(
            session,
            frame,
            [1],
            input_points=[[[[x, y] for x, y, _ in given]]] if given else None,
            input_labels=[[[label for _, _, label in given]]] if given else None,
            input_boxes=[[boxes[frame]]] if frame in boxes else None,
        )
        network(session, frame_idx=frame)
    masks = np.zeros(CLIP.shape[:3], np.bool_)
    for reverse in (False, True):
        for output in network.propagate_in_video_iterator(session, reverse=reverse):
            masks[output.frame_idx] = masks_from_logits(output.pred_masks[0], height=HEIGHT, width=WIDTH)[0]
    return masks


def test_the_same_masks_as_by_the_library_with_all_frames_and_outputs_in_memory(kind: str, network: Any) -> None:
    points = {8: [(20.0, 11.0, 1), (3.0, 25.5, 0)], 12: [(30.0, 4.0, 1)]}
    boxes = {8: [10.0, 3.0, 41.0, 22.0]}
    expected = by_the_library(kind, network, points, boxes)
    prompts = Prompts(
        points=(Point(20, 11, 8), Point(3, 25.5, 8, inside=False), Point(30, 4, 12)), boxes=(Box(10, 3, 41, 22, 8),)
    )
    (masks,) = segment(kind, network, prompts).values()
    assert 0.05 < masks.mean() < 0.95
    assert len({mask.tobytes() for mask in masks}) > 7  # frames differ, so that an order could be noticed
    np.testing.assert_array_equal(masks, expected)


def test_a_point_a_negative_point_and_a_box_each_matter(kind: str, network: Any) -> None:
    point = Point(20, 11, 5)
    alone = segment(kind, network, Prompts(points=(point,)))["1"]
    beside = segment(kind, network, Prompts(points=(point, Point(40, 25, 5, inside=False))))["1"]
    box = segment(kind, network, Prompts(boxes=(Box(5, 2, 30, 20, 5),)))["1"]
    assert (alone[5] != beside[5]).any()
    assert (alone[5] != box[5]).any()


def test_several_objects_are_what_each_is_alone(kind: str, network: Any) -> None:
    prompts = {"1": Point(20, 11, 8, object_name="1"), "cat": Point(40, 20, 3, object_name="cat")}
    together = segment(kind, network, Prompts(points=tuple(prompts.values())))
    assert list(together) == ["1", "cat"]
    for name, prompt in prompts.items():
        np.testing.assert_array_equal(together[name], segment(kind, network, Prompts(points=(prompt,)))[name])


def test_what_a_session_holds_does_not_grow_with_the_clip(
    kind: str, network: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("amodal_diffusion.models.segmenters.sam2._HELD", 4)  # frames held on the way back

    class Watched(session_class(kind)):  # type: ignore[misc]
        made: list[Any] = []  # noqa: RUF012

        def __init__(self, **settings: Any) -> None:
            super().__init__(**settings)
            self.made.append(self)

    def held() -> int:
        (session,) = Watched.made
        tensors = [*_tensors(vars(session)), *_tensors(vars(session.cache))]
        return sum(tensor.numel() for tensor in {id(tensor): tensor for tensor in tensors}.values())

    most = {}
    for frames in (20, 40):
        Watched.made = []
        clip = np.concatenate([CLIP, CLIP, CLIP])[:frames]
        shown = Prompts(points=(Point(20, 11, frames // 2),))
        masks = Sam2Segmenter(network, Watched, PREPROCESSING).segment(clip, shown)
        most[frames] = max(held() for _ in masks)
    assert most[40] == most[20]


def _tensors(value: Any) -> Iterator[torch.Tensor]:
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, dict):
        for entry in value.values():
            yield from _tensors(entry)
    elif isinstance(value, (list, tuple)):
        for entry in value:
            yield from _tensors(entry)


def test_frames_are_read_one_at_a_time_and_the_clip_is_never_held(
    kind: str, network: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("amodal_diffusion.models.segmenters.sam2._HELD", 4)
    reads: list[int] = []

    class Clip:
        def __iter__(self) -> Iterator[UInt8Array]:
            for index, rgb in enumerate(CLIP):
                reads.append(index)
                yield rgb

    segmenter = Sam2Segmenter(network, session_class(kind), PREPROCESSING)
    order = [entry.frame for entry in segmenter.segment(Clip(), Prompts(points=(Point(20, 11, 9),)))]  # type: ignore[arg-type]  # an iterable
    assert order == [9, *range(10, 14), *range(8, -1, -1)]
    assert reads == [*range(10), *range(14), *range(9), *range(5), *range(1)]


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_folder_gives_the_network_that_was_saved(tmp_path: Path, kind: str, network: Any, dtype: str) -> None:
    segmenter = load_segmenter(str(tiny_segmenter_folder(tmp_path, network)), device="cpu", dtype=dtype)
    prompts = Prompts(points=(Point(20, 11, 1),))
    masks, expected = segment_frames(CLIP, prompts, segmenter)["1"], segment(kind, network, prompts)["1"]
    alike = (masks == expected).mean(axis=(1, 2))
    # Of several candidates, rounding may make another one the best in some frames.
    assert alike.min() == 1 if dtype == "float32" else np.median(alike) > 0.98


def test_texts_are_refused(kind: str, network: Any) -> None:
    with pytest.raises(InputError, match=r"text: .*VideoModel knows points and boxes alone"):
        segment(kind, network, Prompts(texts=("a cat",)))


@pytest.mark.slow
def test_a_painted_mask_is_what_that_frame_shows_and_a_stroke_is_points_along_it(kind: str, network: Any) -> None:
    painted = np.zeros((HEIGHT, WIDTH), np.bool_)
    painted[4:20, 8:40] = True
    found = segment(kind, network, Prompts(masks=(MaskPrompt(encode_rle(painted), 8),)))["1"][8]
    assert (found & painted).sum() / (found | painted).sum() > 0.8
    line = np.zeros_like(painted)
    line[10, 12:15] = True
    by_stroke = segment(kind, network, Prompts(strokes=(Stroke(encode_rle(line), 8),)))["1"]
    by_points = segment(kind, network, Prompts(points=tuple(Point(x, 10, 8) for x in (12, 13, 14))))["1"]
    np.testing.assert_array_equal(by_stroke, by_points)
