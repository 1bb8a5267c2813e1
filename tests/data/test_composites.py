"""Datasets of composites: what an item depends on, occluders pasted over tracks, and the frozen test-v2."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from amodal_diffusion.basics import STAGES, InputError, Stage
from amodal_diffusion.data.composites import CompositeDataset, CompositeOptions, PastedOccluders
from amodal_diffusion.data.records import write_records
from amodal_diffusion.data.sailvos import SailVosDataset
from amodal_diffusion.synthetic.composites import frozen
from amodal_diffusion.synthetic.composites.cutouts import CutoutSet
from amodal_diffusion.training.dataset import ClipPreprocessing, TaskClips
from tests.factories import SAMPLING, tiny_cutouts_folder
from tests.tracks import record_of, square

FEW = CompositeOptions(made=2)
CUTOUTS = os.environ.get("AMODAL_CUTOUTS")


def test_an_item_depends_on_split_seed_and_index_alone(tmp_path: Path) -> None:
    folder = tiny_cutouts_folder(tmp_path)
    first, second = (CompositeDataset(folder, length, 4, 32, 48, options=FEW) for length in (3, 9))
    other = CompositeDataset(folder, 3, 4, 32, 48, seed=1, options=FEW)
    late, sample = second[2], first[2]
    for name in ("modal", "amodal", "depth", "rgb", "whole_rgb"):
        np.testing.assert_array_equal(getattr(sample, name), getattr(late, name))
    assert sample.name == late.name == first.name(2)
    assert sample.rgb is not None
    assert sample.rgb.shape == (4, 32, 48, 3)
    assert not np.array_equal(sample.rgb, other[2].rgb)
    assert not (sample.modal & ~sample.amodal).any()
    with pytest.raises(IndexError, match="expected 0 to 2, got 3"):
        first[3]
    with pytest.raises(InputError, match="split: expected one of train, validation, test-v2"):
        CompositeDataset(folder, 1, 4, 32, 48, split="test")  # type: ignore[arg-type]


@pytest.mark.parametrize("stage", STAGES)
def test_clips_are_preprocessed_as_any_other(tmp_path: Path, stage: Stage) -> None:
    dataset = CompositeDataset(tiny_cutouts_folder(tmp_path), 2, 4, 32, 48, options=FEW)
    clips = TaskClips(dataset, ClipPreprocessing(stage, replace(SAMPLING, fit="crop", height=32, width=32)))
    batch = clips[1]
    channels = 1 if stage == "amodal_segmentation" else 3
    assert batch.amodal.shape == (1, 4, channels, 32, 32)
    assert batch.guide_present.all()
    assert clips.name(1) == dataset.name(1)


def test_occluders_are_pasted_over_complete_tracks(tmp_path: Path) -> None:
    whole = square(3, 32, [(8, 8), (9, 10), (10, 12)], side=14)
    record, annotations = record_of(whole, whole), tmp_path / "tracks.json"
    write_records(annotations, [record])
    for file in record.image_file_names:
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((32, 32, 3), 90, np.uint8)).save(tmp_path / file)
    tracks = SailVosDataset(annotations, tmp_path, frames=3, with_rgb=True)
    cutouts = CutoutSet.read(tiny_cutouts_folder(tmp_path), "train")
    pasted = PastedOccluders(tracks, cutouts, length=6, split="validation")
    samples = [pasted[index] for index in range(6)]
    assert all(sample.depth is None for sample in samples)
    assert sum((sample.modal != sample.amodal).any() for sample in samples) >= 2
    for sample in samples:
        np.testing.assert_array_equal(sample.amodal, whole)
    np.testing.assert_array_equal(samples[3].rgb, pasted[3].rgb)


def test_test_v2_is_fixed_and_says_what_is_missing(tmp_path: Path) -> None:
    split = frozen.frozen_split()
    assert len(split.clips) == frozen.CLIPS
    assert len({clip.sha256 for clip in split.clips}) == frozen.CLIPS
    assert all(clip.shows[0] is not None for clip in split.clips)
    with pytest.raises(InputError, match=r"test-v2 needs pictures that are missing here: .* of openclipart-png"):
        CompositeDataset(tiny_cutouts_folder(tmp_path), 4, frozen.FRAMES, frozen.HEIGHT, frozen.WIDTH, split="test-v2")
    with pytest.raises(InputError, match="test-v2 is fixed"):
        CompositeDataset(tmp_path, 4, 8, 64, 64, split="test-v2")
    assert len(frozen.missing_sources(tmp_path)) == len(split.cutouts)


@pytest.mark.slow  # reads some 500 pictures
@pytest.mark.skipif(
    CUTOUTS is None, reason="AMODAL_CUTOUTS does not name a folder of cut-outs (recipes/tiny/README.md)"
)
def test_four_clips_of_test_v2_have_the_frozen_digest() -> None:
    folder = Path(str(CUTOUTS))
    missing = frozen.missing_sources(folder)
    if missing:
        pytest.skip(f"{folder} lacks {len(missing)} of test-v2's pictures, such as {missing[0]}")
    assert len(list(frozen.make_test_v2(folder, 4))) == 4
