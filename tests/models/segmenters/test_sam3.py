"""Sam3Segmenter with the real SAM 3 classes at tiny size, held against the library's own way of streaming."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import CLIPTokenizer, Sam3VideoInferenceSession, Sam3VideoModel

from amodal_diffusion.basics import InputError
from amodal_diffusion.io.prompts import Point, Prompts
from amodal_diffusion.models.segmenters.loading import load_segmenter
from amodal_diffusion.models.segmenters.preprocessing import Preprocessing
from amodal_diffusion.models.segmenters.protocol import ObjectMask, segment_frames
from amodal_diffusion.types import BoolArray
from tests.segmenters import tiny_sam3_folder

CLIP = np.random.default_rng(0).integers(0, 256, (6, 30, 50, 3), dtype=np.uint8)
HEIGHT, WIDTH = CLIP.shape[1:3]
PREPROCESSING = Preprocessing(112, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
TEXTS = Prompts(texts=("Red car!", "cat"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_sam3_folder(tmp_path_factory.mktemp("sam3"))


def by_the_library(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[int, BoolArray]]:
    """Masks of each frame, with all outputs kept in the session; texts and results through the processor's methods."""
    library = importlib.import_module("transformers.models.sam3_video.processing_sam3_video")
    monkeypatch.setattr(library, "masks_to_boxes", len, raising=False)  # torchvision's, for boxes that nobody looks at
    processor = object.__new__(library.Sam3VideoProcessor)  # its own constructor asks for torchvision
    processor.tokenizer = CLIPTokenizer.from_pretrained(folder)
    network = Sam3VideoModel.from_pretrained(folder)
    session = Sam3VideoInferenceSession(dtype=torch.float32, video_height=HEIGHT, video_width=WIDTH)
    processor.add_text_prompt(session, list(TEXTS.texts))
    for rgb in CLIP:
        output = network(session, frame=PREPROCESSING.normalise(PREPROCESSING.shrink(rgb)))
        found = processor.postprocess_outputs(session, output)
        yield {number: mask.numpy() for number, mask in zip(found["object_ids"].tolist(), found["masks"], strict=True)}


def test_the_same_masks_as_by_the_library_with_all_outputs_in_memory(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    segmenter = load_segmenter(str(folder), device="cpu")
    entries: list[ObjectMask] = list(segmenter.segment(CLIP, TEXTS))
    names = list(dict.fromkeys(entry.object_name for entry in entries))
    given: list[dict[int, BoolArray]] = [{} for _ in CLIP]
    for entry in entries:
        given[entry.frame][names.index(entry.object_name)] = entry.mask
    for frame, expected in enumerate(by_the_library(folder, monkeypatch)):
        assert expected
        for number in given[frame] | expected:  # either may leave out an empty one
            empty = np.zeros((HEIGHT, WIDTH), np.bool_)
            np.testing.assert_array_equal(given[frame].get(number, empty), expected.get(number, empty))


def test_objects_are_named_by_what_they_are(folder: Path) -> None:
    masks = segment_frames(CLIP[:2], TEXTS, load_segmenter(str(folder), device="cpu"))
    assert set(masks) <= {f"{word}-{number}" for word in ("red-car", "cat") for number in (1, 2, 3)}
    assert "red-car-1" in masks


@pytest.mark.slow
def test_what_a_session_holds_does_not_grow_with_the_clip(folder: Path) -> None:
    segmenter: Any = load_segmenter(str(folder), device="cpu")
    sessions = []
    make = segmenter._session
    segmenter._session = lambda texts: sessions.append(make(texts)) or sessions[-1]
    held = {}
    for entry in segmenter.segment(np.concatenate([CLIP] * 6), TEXTS):
        (session,) = sessions
        outputs = [stored for kinds in session.output_dict_per_obj.values() for stored in kinds.values()]
        logs = [session.obj_id_to_tracker_score_frame_wise, session.suppressed_obj_ids]
        frames = [frame for frame in session.processed_frames.values() if frame is not None]
        held[entry.frame] = sum(map(len, (*outputs, *logs, frames)))
    assert held[35] == held[23] == max(held.values())


def test_clicks_are_refused(folder: Path) -> None:
    with pytest.raises(InputError, match=r"Sam3VideoModel takes texts alone here"):
        segment_frames(CLIP, Prompts(points=(Point(1, 1),)), load_segmenter(str(folder), device="cpu"))
