"""Both stages train on an annotation file; what occluders hide follows from the seed and the count of clips."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate.state import AcceleratorState, GradientState, PartialState
from safetensors.torch import load_file

from amodal_diffusion.config import load_settings, save_settings
from amodal_diffusion.data.occluders import Occlusion
from amodal_diffusion.data.records import read_records
from amodal_diffusion.training.batches import BatchCounts, ClipOrder, endless_batches
from amodal_diffusion.training.dataset import TaskBatch, TaskClips, task_of, training_samples, validation_samples
from amodal_diffusion.training.log import occlusion_figures
from amodal_diffusion.training.settings import DataSettings, OccluderSettings, TrainingSettings, ValidationSettings
from amodal_diffusion.training.setup import train
from amodal_diffusion.types import STAGES, InputError, Stage
from tests.tracks import write_tracks
from tests.training.conftest import MakeSettings


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
        assert all(line[name] == expected[name] for name in line if name != "clips_per_second")
    one, other = (load_file(run.output / "checkpoints/00000004/unet.safetensors") for run in (whole, halves))
    assert all(torch.equal(value, other[name]) for name, value in one.items())


def _batches(annotations: Path, *, first: int, number: int, workers: int, seed: int = 0) -> list[TaskBatch]:
    data = _data(annotations, "content_completion")
    task = task_of("content_completion")
    clips = TaskClips(training_samples(data, task), task)
    counts = BatchCounts(first, batch_size=1, process=0, processes=1)
    batches = endless_batches(clips, ClipOrder(len(clips), seed), counts, workers=workers)
    return [batch.clips[0] for batch in islice(batches, number)]


def test_what_is_hidden_depends_on_seed_and_count_alone(annotations: Path) -> None:
    tracks = len(read_records(annotations))
    whole = _batches(annotations, first=0, number=tracks + 4, workers=0)
    later = _batches(annotations, first=tracks, number=4, workers=2)
    for one, other in zip(whole[tracks:], later, strict=True):
        assert torch.equal(one.modal, other.modal)
        assert one.occlusions == other.occlusions
    again = _batches(annotations, first=0, number=4, workers=0, seed=1)
    assert any(not torch.equal(one.modal, other.modal) for one, other in zip(whole, again, strict=False))
    order = ClipOrder(tracks, 0)
    places = {order.clip_at(count): count for count in range(tracks)}
    second = tracks + 1  # the same track in the next epoch, behind another occluder
    assert not torch.equal(whole[second].modal, whole[places[order.clip_at(second)]].modal)


def test_validation_looks_at_the_first_tracks_and_always_the_same(annotations: Path) -> None:
    task = task_of("content_completion")
    data = _data(annotations, "content_completion")
    samples, again = (validation_samples(data, task, length=2) for _ in range(2))
    assert len(samples) == 2
    assert (samples[1].modal == again[1].modal).all()
    assert samples.name(1).endswith("annotations.json: track 1")
    assert len(validation_samples(data, task, length=10_000)) == len(read_records(annotations))


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
        ({"annotations": FILE}, r"data\.validation_annotations: expected an annotation file of other clips"),
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


def test_scenes_of_training_are_degraded_and_those_of_validation_exact() -> None:
    exact = DataSettings(clips=4, frames=3, height=64, width=128)
    degraded = replace(exact, degraded_share=1.0, depthless_share=1.0)
    task = task_of("amodal_segmentation")
    for plain, changed in zip(training_samples(exact, task), training_samples(degraded, task), strict=True):
        assert (plain.modal != changed.modal).any()
        assert plain.depth is not None
        assert changed.depth is None
        assert not task.prepare(changed).guide_present.any()
    looked_at = (validation_samples(data, task, length=2) for data in (exact, degraded))
    for plain, same in zip(*looked_at, strict=True):
        assert (plain.modal == same.modal).all()
        assert (plain.depth == same.depth).all()
