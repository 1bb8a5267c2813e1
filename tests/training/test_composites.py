"""Runs on composites: kinds in their shares, order and resumption as with other clips, errors before the first step."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from amodal_diffusion import edm
from amodal_diffusion.basics import STAGES, InputError, Stage
from amodal_diffusion.data.composites import CompositeDataset, CompositeOptions, MixedClips, PastedOccluders
from amodal_diffusion.data.records import write_records
from amodal_diffusion.data.samples import SceneDataset
from amodal_diffusion.training.batches import endless_batches
from amodal_diffusion.training.clip_sources import training_clips, validation_clips
from amodal_diffusion.training.data_settings import CompositeSettings, DataSettings
from amodal_diffusion.training.dataset import TaskClips
from amodal_diffusion.training.order import BatchCounts, ClipOrder
from amodal_diffusion.training.precompute import PrecomputeSettings, open_output
from amodal_diffusion.training.settings import NoiseSettings, TrainingSettings, ValidationSettings
from tests.factories import tiny_cutouts_folder
from tests.tracks import record_of, square, write_tracks
from tests.training.conftest import MakeSettings, fit

SMALL = {"clips": 40, "frames": 4, "height": 16, "width": 32}


@pytest.fixture(scope="module")
def cutouts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_cutouts_folder(tmp_path_factory.mktemp("cutouts"))


def _data(folder: Path, *, share: float = 1.0, pasted_share: float = 0.0, **changes: Any) -> DataSettings:
    composites = CompositeSettings(folder, share, pasted_share, height=16, width=32, made=1)
    return DataSettings(composites=composites, **{**SMALL, **changes})


@pytest.mark.slow
@pytest.mark.parametrize("stage", STAGES)
def test_a_resumed_run_equals_one_in_a_piece(make_settings: MakeSettings, cutouts: Path, stage: Stage) -> None:
    whole = make_settings(steps=2, stage=stage, batch_size=1, data=_data(cutouts, share=0.5))
    assert fit(whole).finished
    halves = replace(whole, output=whole.output.with_name("halves"), max_minutes=1e-9)
    assert fit(halves).step == 1
    assert fit(replace(halves, max_minutes=0.0)).finished
    one, two = (load_file(run.output / "checkpoints/00000002/unet.safetensors") for run in (whole, halves))
    assert all(torch.equal(value, two[name]) for name, value in one.items())


def test_a_clips_number_decides_its_kind(make_settings: MakeSettings, cutouts: Path) -> None:
    clips = training_clips(make_settings(data=_data(cutouts, share=0.7)))
    assert isinstance(clips.samples, MixedClips)
    kinds = [type(clips.samples.part(index)) for index in range(40)]
    assert 20 <= kinds.count(CompositeDataset) <= 35
    assert set(kinds) == {CompositeDataset, SceneDataset}
    again = training_clips(make_settings(data=_data(cutouts, share=0.7, clips=30)))
    for index in (kinds.index(CompositeDataset), kinds.index(SceneDataset)):
        torch.testing.assert_close(clips[index].amodal, again[index].amodal, atol=0, rtol=0)
        assert clips.name(index) == again.name(index)
    with pytest.raises(IndexError, match="expected 0 to 39, got 40"):
        clips.samples[40]


def test_validation_has_the_held_out_things_and_no_errors(make_settings: MakeSettings, cutouts: Path) -> None:
    settings = make_settings(data=_data(cutouts), validation=ValidationSettings(every=1, clips=3))
    with_depth, without = validation_clips(settings), validation_clips(settings, depthless=True)
    assert isinstance(with_depth.samples, CompositeDataset)
    assert with_depth.samples.split == "validation"
    assert (with_depth.samples.composer.errors.masks, with_depth.samples.composer.errors.depth) == (0.0, 0.0)
    assert with_depth.name(0) == "composite-validation-000000"
    assert with_depth[0].guide_present.all()
    assert not without[0].guide_present.any()


def _complete_track(folder: Path) -> Path:
    """One square of 14 pixels that nothing hides, and its frames."""
    whole = square(4, 32, [(8, 8), (9, 10), (10, 12), (11, 12)], side=14)
    record = record_of(whole, whole)
    for file in record.image_file_names:
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((32, 32, 3), 90, np.uint8)).save(folder / file)
    write_records(folder / "complete.json", [record])
    return folder / "complete.json"


def test_cut_outs_are_pasted_over_complete_tracks_for_both_stages(
    make_settings: MakeSettings, cutouts: Path, tmp_path: Path
) -> None:
    complete = _complete_track(tmp_path / "complete")
    data = _data(cutouts, share=0.5, pasted_share=0.5, annotations=complete, images=complete.parent)
    for stage in STAGES:
        clips = training_clips(make_settings(stage=stage, data=data))
        assert isinstance(clips.samples, MixedClips)
        pasted = next(k for k in range(40) if isinstance(clips.samples.part(k), PastedOccluders))
        assert clips[pasted].amodal.shape == (1, 4, 1 if stage == "amodal_segmentation" else 3, 16, 32)
        assert "paste" in clips.name(pasted)


def test_tracks_that_stay_as_they_are(make_settings: MakeSettings, cutouts: Path, tmp_path: Path) -> None:
    data = _data(cutouts, share=0.5, annotations=write_tracks(tmp_path / "tracks", 1))
    clips = training_clips(make_settings(data=data))
    assert isinstance(clips.samples, MixedClips)
    track = next(k for k in range(40) if not isinstance(clips.samples.part(k), CompositeDataset))
    assert clips.samples[track].files


def test_a_batch_is_made_at_once_where_there_is_an_accelerator(
    make_settings: MakeSettings, cutouts: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clips = training_clips(make_settings(data=_data(cutouts, share=0.5)))
    one_by_one = next(_batches(clips)).clips
    made: list[int] = []
    monkeypatch.setattr(CompositeDataset, "on_accelerator", True)
    composer = clips.samples.parts[0][1].composer  # type: ignore[attr-defined]
    monkeypatch.setattr(type(composer), "__call__", _counting(type(composer).__call__, made))
    at_once = next(_batches(clips)).clips
    assert made[0] > 1
    assert len(made) == 1
    for one, other in zip(one_by_one, at_once, strict=True):
        torch.testing.assert_close(one.modal, other.modal, atol=0, rtol=0)
        torch.testing.assert_close(one.guide, other.guide, atol=0, rtol=0)


def _counting(original: Any, made: list[int]) -> Any:
    def call(composer: object, seeds: list[int]) -> Any:
        made.append(len(seeds))
        return original(composer, seeds)

    return call


def _batches(clips: TaskClips) -> Iterator[Any]:
    counts = BatchCounts(0, batch_size=5, process=0, processes=1)
    return endless_batches(clips, ClipOrder(len(clips), 0), counts, workers=0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"share": 0.0}, "expected more than 0 and at most 1 together, got 0.0 and 0.0"),
        ({"share": 0.7, "pasted_share": 0.4}, "expected more than 0 and at most 1 together"),
        ({"share": 1.2}, "data.composites.share: expected a share from 0 to 1, got 1.2"),
        ({"height": 8}, "data.composites.height: expected at least 16, got 8"),
        ({"folder": None, "seed": 1}, "expected data.composites.folder beside its other settings, got none"),
        ({"share": 0.5, "pasted_share": 0.5}, "data.composites.pasted_share: expected data.annotations beside it"),
    ],
)
def test_wrong_settings_are_named(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        DataSettings(composites=CompositeSettings(**{"folder": tmp_path, **change}))


def test_composites_are_not_cached(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"data\.cache: expected none beside data\.composites\.folder"):
        DataSettings(composites=CompositeSettings(tmp_path), cache=tmp_path)
    with pytest.raises(InputError, match="composites are made while the run trains"):
        open_output(PrecomputeSettings(data=DataSettings(composites=CompositeSettings(tmp_path)), out=tmp_path))


def test_a_folder_without_cut_outs_ends_the_run_before_the_first_step(
    make_settings: MakeSettings, tmp_path: Path
) -> None:
    settings = make_settings(data=_data(tmp_path / "missing"))
    with pytest.raises(InputError, match=r"missing/index\.json: no such file; make the folder with recipes/tiny"):
        fit(settings)
    assert not settings.output.exists()


def test_noise_levels_cover_the_samplers() -> None:
    generator = torch.Generator().manual_seed(0)
    drawn = torch.full((4000,), 33.0)
    levels = edm.sample_mixed_sigma(drawn, highest_share=0.3, uniform_share=0.2, generator=generator)
    assert (levels == edm.SIGMA_MAX).float().mean() == pytest.approx(0.3, abs=0.03)
    others = levels[(levels != edm.SIGMA_MAX) & (levels != 33.0)]
    assert len(others) / 4000 == pytest.approx(0.2, abs=0.03)
    assert others.log().mean() == pytest.approx((np.log(0.002) + np.log(700)) / 2, abs=0.4)
    assert edm.sample_mixed_sigma(drawn, highest_share=0.0, uniform_share=0.0, generator=generator) is drawn
    with pytest.raises(InputError, match=r"noise\.highest_share, noise\.uniform_share"):
        NoiseSettings(highest_share=0.8, uniform_share=0.4)


def test_depth_is_left_out_of_a_share(cutouts: Path) -> None:
    options = CompositeOptions(depthless_share=0.5, made=1)
    samples = CompositeDataset(cutouts, 6, 4, 16, 32, options=options)
    found = [samples[index].depth is None for index in range(6)]
    assert 1 <= sum(found) <= 5
    assert (samples[0].depth is None) == found[0]


def test_pasting_over_all_tracks_needs_no_tracks_as_occluders(cutouts: Path, tmp_path: Path) -> None:
    data = _data(cutouts, share=0.0, pasted_share=1.0, annotations=tmp_path / "tracks.json")
    settings = TrainingSettings(stage="content_completion", data=data, validation=ValidationSettings(every=0))
    assert settings.data.plain_share == 0.0
    with pytest.raises(InputError, match=r"data\.occluders\.annotations: expected a file of tracks"):
        replace(settings, data=_data(cutouts, share=0.0, pasted_share=0.5, annotations=tmp_path / "tracks.json"))
