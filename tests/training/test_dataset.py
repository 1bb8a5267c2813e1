"""What each stage makes of a clip, and which clips it gets: both stages train on scenes and on an annotation file."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from accelerate.state import AcceleratorState, GradientState, PartialState
from safetensors.torch import load_file

from amodal_diffusion.basics import STAGES, InputError, Stage
from amodal_diffusion.config import BeyondPaper, SamplingConfig
from amodal_diffusion.data.occluders import Occlusion
from amodal_diffusion.data.records import read_records
from amodal_diffusion.data.samples import AmodalSample
from amodal_diffusion.frames.transforms import depth_to_unit
from amodal_diffusion.parsing import load_settings, save_settings
from amodal_diffusion.propagation.mask_prior import temporal_mask_prior
from amodal_diffusion.training.batches import endless_batches
from amodal_diffusion.training.clip_sources import training_clips, validation_clips
from amodal_diffusion.training.data_settings import DataSettings, OccluderSettings
from amodal_diffusion.training.dataset import ClipPreprocessing, FrameView, TaskBatch, join
from amodal_diffusion.training.log import occlusion_figures
from amodal_diffusion.training.order import BatchCounts, ClipOrder
from amodal_diffusion.training.settings import TrainingSettings, ValidationSettings
from amodal_diffusion.training.setup import train
from amodal_diffusion.types import FloatArray
from tests.tracks import write_tracks
from tests.training.conftest import MakeSettings


def _preprocess(stage: Stage, **beyond: Any) -> ClipPreprocessing:
    """At the size of the sample's frames."""
    config = SamplingConfig(height=8, width=12, num_frames=3, beyond=BeyondPaper(**beyond))
    return ClipPreprocessing(stage, config)


@pytest.fixture
def sample() -> AmodalSample:
    rng = np.random.default_rng(0)
    amodal = np.zeros((3, 8, 12), dtype=np.bool_)
    amodal[:, 2:6, 3:9] = True
    modal = amodal.copy()
    modal[:, :, 6:] = False
    rgb = rng.integers(0, 255, (3, 8, 12, 3), dtype=np.uint8)
    whole = np.where(amodal[..., None], rgb, 255).astype(np.uint8)
    return AmodalSample("clip", modal, amodal, rng.random((3, 8, 12), dtype=np.float32) * 9 + 4, rgb, whole)


def test_amodal_segmentation(sample: AmodalSample) -> None:
    batch = _preprocess("amodal_segmentation")(sample)
    assert batch.modal.shape == batch.guide.shape == batch.amodal.shape == (1, 3, 1, 8, 12)
    assert torch.equal(batch.modal[0, :, 0] > 0, torch.from_numpy(sample.modal))
    assert torch.equal(batch.amodal[0, :, 0] > 0, torch.from_numpy(sample.amodal))
    assert set(batch.modal.unique().tolist()) == set(batch.amodal.unique().tolist()) == {-1.0, 1.0}
    assert (batch.guide.min(), batch.guide.max()) == (-1.0, 1.0)
    assert batch.guide_present.tolist() == [True]


def test_a_clip_without_depth_has_no_guide(sample: AmodalSample) -> None:
    batch = _preprocess("amodal_segmentation")(replace(sample, depth=None, rgb=None, whole_rgb=None))
    assert batch.guide_present.tolist() == [False]
    assert not batch.guide.any()


def test_the_modal_mask_may_carry_the_temporal_prior(sample: AmodalSample) -> None:
    preprocess = _preprocess("amodal_segmentation", temporal_prior=True)
    assert preprocess.needs_rgb
    batch = preprocess(sample)
    assert sample.rgb is not None
    expected = torch.from_numpy(temporal_mask_prior(sample.rgb, sample.modal, sample.depth))
    visible = torch.from_numpy(sample.modal)
    assert torch.equal(batch.modal[0, :, 0] > 0, visible)
    assert torch.equal(batch.modal[0, :, 0][~visible], expected[~visible].clamp(max=-1e-3))
    assert (batch.modal != _preprocess("amodal_segmentation")(sample).modal).any()
    with pytest.raises(InputError, match="clip: amodal_segmentation needs rgb, got a clip without"):
        preprocess(replace(sample, rgb=None))


def test_content_completion(sample: AmodalSample) -> None:
    assert sample.rgb is not None
    batch = _preprocess("content_completion")(sample)
    assert batch.modal.shape == batch.amodal.shape == (1, 3, 3, 8, 12)
    visible = torch.from_numpy(sample.modal)[:, None].expand(-1, 3, -1, -1)
    whole = torch.from_numpy(sample.amodal)[:, None].expand(-1, 3, -1, -1)
    frames = torch.from_numpy(sample.rgb).movedim(-1, 1) / 127.5 - 1
    torch.testing.assert_close(batch.modal[0][visible], frames[visible])
    assert (batch.modal[0][~visible] == 1).all()
    torch.testing.assert_close(batch.amodal[0][whole], frames[whole])
    assert (batch.amodal[0][~whole] == 1).all()
    assert torch.equal(batch.guide[0, :, 0] > 0, torch.from_numpy(sample.amodal))
    assert batch.guide_present.tolist() == [True]


def test_depth_is_scaled_for_stage_1_alone(sample: AmodalSample, monkeypatch: pytest.MonkeyPatch) -> None:
    scaled: list[int] = []

    def counted(depth: FloatArray) -> torch.Tensor:
        scaled.append(len(depth))
        return depth_to_unit(depth)

    monkeypatch.setattr("amodal_diffusion.training.dataset.depth_to_unit", counted)
    assert sample.depth is not None
    _preprocess("content_completion")(sample)
    assert scaled == []
    _preprocess("amodal_segmentation")(sample)
    assert scaled == [len(sample.depth)]


@pytest.mark.parametrize(("missing", "message"), [("rgb", "needs rgb"), ("whole_rgb", "needs the whole object's RGB")])
def test_content_completion_names_the_clip_without_rgb(sample: AmodalSample, missing: str, message: str) -> None:
    without: dict[str, Any] = {missing: None}
    with pytest.raises(InputError, match=rf"clip: content.completion {message}, got a clip without"):
        _preprocess("content_completion")(replace(sample, **without))


def test_join(sample: AmodalSample) -> None:
    preprocess = _preprocess("amodal_segmentation")
    batch = join([preprocess(sample), preprocess(replace(sample, depth=None))])
    assert batch.modal.shape == (2, 3, 1, 8, 12)
    assert batch.guide_present.tolist() == [True, False]


@pytest.mark.parametrize("stage", STAGES)
def test_a_run_preprocesses_at_the_size_that_it_trains_at(stage: Stage, make_settings: MakeSettings) -> None:
    data = DataSettings(frames=3, height=8, width=12)
    settings = make_settings(stage=stage, data=data, sampling=SamplingConfig(height=64, width=64, fit="crop"))
    preprocess = ClipPreprocessing.of(settings)
    assert preprocess.stage == stage
    assert preprocess.needs_rgb is (stage == "content_completion")
    assert preprocess.config == replace(settings.sampling, num_frames=3, height=8, width=12)


@pytest.fixture(scope="module")
def annotations(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tracks(tmp_path_factory.mktemp("scenes"), 5)


def _data(annotations: Path, stage: Stage, **changes: object) -> DataSettings:
    occluders = OccluderSettings(annotations, occlusion=(0.2, 0.9), tries=8)
    values: dict[str, Any] = {
        "annotations": annotations,
        "validation_annotations": annotations,
        "frames": 4,
        "height": 16,
        "width": 32,
        "occluders": occluders if stage == "content_completion" else OccluderSettings(),
        **changes,
    }
    return DataSettings(**values)


def _run(settings: TrainingSettings) -> list[dict[str, Any]]:
    """Train from a clean state; the lines of the log."""
    for state in (AcceleratorState, GradientState, PartialState):
        state._reset_state()
    assert train(settings).finished
    return [json.loads(line) for line in (settings.output / "log.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_trains_validates_and_exports(stage: Stage, annotations: Path, make_settings: MakeSettings) -> None:
    settings = make_settings(
        stage=stage, data=_data(annotations, stage), steps=2, validation=ValidationSettings(every=2, clips=2)
    )
    lines = _run(settings)
    last = next(line for line in lines if line.get("step") == 2 and "loss" in line)
    figure = "psnr_hidden" if stage == "content_completion" else "miou_occ"
    assert any(figure in line for line in lines)
    assert (settings.output / "model/checkpoint.json").is_file()
    if stage == "content_completion":
        assert 0.2 <= last["occlusion_least"] <= last["occlusion_mean"] <= last["occlusion_largest"] <= 0.9
        assert last["replaced_already_hidden"] >= 0
    else:
        assert not any("occlusion" in name for name in last)


def test_tracks_are_validated_without_depth(annotations: Path, make_settings: MakeSettings) -> None:
    data = _data(annotations, "amodal_segmentation", guide_dropout=0.5)
    settings = make_settings(data=data, validation=ValidationSettings(every=1, clips=2))
    assert len(validation_clips(settings, depthless=True)) == 2


def test_stage_2_resumes_with_the_same_occluders(
    annotations: Path, make_settings: MakeSettings, tmp_path: Path
) -> None:
    data = _data(annotations, "content_completion", validation_annotations=None)
    whole = make_settings(
        stage="content_completion", data=data, output=tmp_path / "whole", checkpoint_every=2, keep_checkpoints=9
    )
    first = [line for line in _run(whole) if "loss" in line]
    halves = replace(whole, output=tmp_path / "halves")
    shutil.copytree(whole.output / "checkpoints/00000002", halves.output / "checkpoints/00000002")
    second = [line for line in _run(halves) if "loss" in line]
    assert [line["step"] for line in second] == [3, 4]
    for line, expected in zip(second, first[2:], strict=True):
        assert all(line[name] == expected[name] for name in line if name not in ("clips_per_second", "minutes_left"))
    one, other = (load_file(run.output / "checkpoints/00000004/unet.safetensors") for run in (whole, halves))
    assert all(torch.equal(value, other[name]) for name, value in one.items())


def _batches(settings: TrainingSettings, *, first: int, number: int, workers: int, seed: int = 0) -> list[TaskBatch]:
    clips = training_clips(settings)
    counts = BatchCounts(first, batch_size=1, process=0, processes=1)
    batches = endless_batches(clips, ClipOrder(len(clips), seed), counts, workers=workers)
    return [batch.clips[0] for batch in islice(batches, number)]


def test_what_is_hidden_depends_on_seed_and_count_alone(annotations: Path, make_settings: MakeSettings) -> None:
    settings = make_settings(stage="content_completion", data=_data(annotations, "content_completion"))
    tracks = len(read_records(annotations))
    whole = _batches(settings, first=0, number=tracks + 4, workers=0)
    later = _batches(settings, first=tracks, number=4, workers=2)
    for one, other in zip(whole[tracks:], later, strict=True):
        assert torch.equal(one.modal, other.modal)
        assert one.occlusions == other.occlusions
    again = _batches(settings, first=0, number=4, workers=0, seed=1)
    assert any(not torch.equal(one.modal, other.modal) for one, other in zip(whole, again, strict=False))
    order = ClipOrder(tracks, 0)
    places = {order.clip_at(count): count for count in range(tracks)}
    second = tracks + 1  # the same track in the next epoch, behind another occluder
    assert not torch.equal(whole[second].modal, whole[places[order.clip_at(second)]].modal)


def test_validation_looks_at_the_first_tracks_and_always_the_same(
    annotations: Path, make_settings: MakeSettings
) -> None:
    settings = make_settings(
        stage="content_completion",
        data=_data(annotations, "content_completion"),
        validation=ValidationSettings(every=1, clips=2),
    )
    clips, again = validation_clips(settings), validation_clips(settings)
    assert len(clips) == 2
    assert (clips.read(1).modal == again.read(1).modal).all()
    assert clips.name(1).endswith("annotations.json: track 1")
    many = replace(settings, validation=ValidationSettings(every=1, clips=10_000))
    assert len(validation_clips(many)) == len(read_records(annotations))


def test_the_range_that_was_reached_is_summed_up() -> None:
    figures = occlusion_figures([Occlusion(0.25, 1, 0), Occlusion(0.75, 0, 2), Occlusion(0.5, 3, 0)])
    assert figures == {
        "occlusion_least": 0.25,
        "occlusion_mean": 0.5,
        "occlusion_largest": 0.75,
        "replaced_already_hidden": 4,
        "replaced_no_occluder": 2,
    }


def test_settings_survive_yaml(annotations: Path, make_settings: MakeSettings, tmp_path: Path) -> None:
    settings = make_settings(stage="content_completion", data=_data(annotations, "content_completion"))
    save_settings(settings, tmp_path / "run.yaml")
    assert load_settings(TrainingSettings, tmp_path / "run.yaml") == settings


FILE = Path("tracks.json")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"images": FILE}, r"data\.images: expected data\.annotations beside it, got none"),
        ({"occluders": OccluderSettings(FILE)}, r"data\.occluders\.annotations: expected data\.annotations beside it"),
        ({"annotations": FILE, "degraded_share": 0.5}, r"data\.degraded_share: changes generated scenes, but"),
        ({"annotations": FILE, "depthless_share": 0.5}, r"data\.depthless_share: changes generated scenes, but"),
        ({"annotations": FILE}, r"data\.annotations: tracks\.json: no such file"),
        ({"annotations": Path(__file__)}, r"data\.validation_annotations: expected .* or give validation\.every=0$"),
        (
            {"annotations": FILE, "validation_annotations": FILE, "occluders": OccluderSettings(FILE)},
            r"data\.occluders\.annotations: expected none in stage 1, got tracks\.json",
        ),
    ],
)
def test_settings_that_do_not_belong_together_are_refused(
    make_settings: MakeSettings, data: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        make_settings(data=DataSettings(**data), validation=ValidationSettings(every=1))


def test_stage_2_needs_occluders(make_settings: MakeSettings) -> None:
    with pytest.raises(InputError, match=r"data\.occluders\.annotations: expected a file of tracks to hide"):
        make_settings(stage="content_completion", data=_data(FILE, "amodal_segmentation"))


def test_scenes_of_training_are_corrupted_and_those_of_validation_exact(make_settings: MakeSettings) -> None:
    validation = ValidationSettings(every=1, clips=2)
    exact = make_settings(data=DataSettings(clips=4, frames=3, height=64, width=128), validation=validation)
    corrupted = replace(exact, data=replace(exact.data, degraded_share=1.0, depthless_share=1.0))
    trained_on, changed_ones = training_clips(exact), training_clips(corrupted)
    for index in range(len(trained_on)):
        plain, changed = trained_on.read(index), changed_ones.read(index)
        assert (plain.modal != changed.modal).any()
        assert plain.depth is not None
        assert changed.depth is None
        assert not changed_ones[index].guide_present.any()
    first, second = validation_clips(exact), validation_clips(corrupted)
    assert len(first) == len(second) == 2
    for index in range(2):
        plain, same = first.read(index), second.read(index)
        assert (plain.modal == same.modal).all()
        assert (plain.depth == same.depth).all()
    assert validation_clips(corrupted, depthless=True).read(0).depth is None


def test_crops_are_cut_from_larger_scenes(make_settings: MakeSettings) -> None:
    data = DataSettings(clips=2, frames=2, height=32, width=32, scene_height=64, scene_width=128)
    whole = make_settings(data=data, sampling=SamplingConfig(fit="letterbox"))
    cropped = replace(whole, sampling=SamplingConfig(fit="crop"))
    assert training_clips(whole).read(1).modal.shape == (2, 32, 32)
    clips = training_clips(cropped)
    assert clips.read(1).modal.shape == (2, 64, 128)
    assert clips.name(1) == clips.read(1).name == training_clips(whole).name(1)
    assert clips[1].modal.shape == (1, 2, 1, 32, 32)
    assert (clips[1].amodal > 0).float().mean() > clips.read(1).amodal.mean()


class Ramp:
    """Depth that grows to the right; counts its calls."""

    calls = 0

    def __call__(self, views: Sequence[FrameView]) -> FloatArray:
        self.calls += 1
        height, width = views[0].geometry.target_hw
        return np.broadcast_to(np.arange(width, dtype=np.float32), (len(views), height, width)).copy()


def test_tracks_get_estimated_depth_in_stage_1(annotations: Path, make_settings: MakeSettings, tmp_path: Path) -> None:
    settings = make_settings(data=_data(annotations, "amodal_segmentation"))
    assert not training_clips(settings)[0].guide_present.any()
    depth = Ramp()
    clips = training_clips(settings, depth=depth)
    batch = clips[0]
    assert batch.guide_present.all()
    torch.testing.assert_close(batch.guide[0, 0, 0, 0], torch.linspace(-1, 1, 32))
    assert depth.calls == 1
    sample = clips.read(0)
    assert sample.depth is not None
    assert sample.depth.shape == sample.modal.shape
    assert (np.diff(sample.depth, axis=-1) >= 0).all()
    shutil.copy(annotations, tmp_path / "alone.json")
    alone = replace(settings, data=replace(settings.data, annotations=tmp_path / "alone.json"))
    assert torch.equal(training_clips(alone)[0].modal, batch.modal)  # masks alone need no frames
    with pytest.raises(InputError, match=r"alone\.json: track 0: .*\.png: no such file"):
        training_clips(alone, depth=depth)[0]
