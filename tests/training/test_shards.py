"""Runs on shards: the weights of runs on the files, each sample once, damage that is named once and has a limit."""

from __future__ import annotations

import json
import shutil
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from amodal_diffusion.basics import STAGES, InputError, Stage
from amodal_diffusion.data.sailvos import SailVosDataset
from amodal_diffusion.data.shard_writer import WritingOptions, write_shards
from amodal_diffusion.parsing import load_settings, save_settings
from amodal_diffusion.training import damaged
from amodal_diffusion.training.batches import BadClip
from amodal_diffusion.training.clip_sources import training_clips
from amodal_diffusion.training.damaged import add_damaged, excess_of_damage
from amodal_diffusion.training.data_files import check_data_files
from amodal_diffusion.training.data_settings import DatasetSettings, DataSettings, OccluderSettings
from amodal_diffusion.training.order import ClipOrder, MixedOrder, Part
from amodal_diffusion.training.precompute import PrecomputeSettings, precompute
from amodal_diffusion.training.settings import TrainingSettings
from amodal_diffusion.training.shard_sources import SourceOptions, open_source
from tests.factories import tiny_depth_folder
from tests.tracks import FRAMES, write_tracks
from tests.training.conftest import MakeSettings, fit
from tests.training.launching import fork, forked
from tests.training.states import assert_equal, checkpoint, state_of

SIZE = {"frames": FRAMES, "height": 16, "width": 32, "guide_dropout": 0.5}


@pytest.fixture(scope="module")
def annotations(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Seven tracks, which batches of 2, 4 and 6 do not divide."""
    path = write_tracks(tmp_path_factory.mktemp("scenes"), 2)
    path.write_text(json.dumps(json.loads(path.read_text())[:7]))
    return path


def write(source: Path, out: Path) -> str:
    with open_source(source, SourceOptions()) as opened:
        write_shards(opened, str(out), {}, WritingOptions(shard_bytes=50_000, quiet=True))
    return str(out)


@pytest.fixture(scope="module")
def shards(annotations: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    return write(annotations, tmp_path_factory.mktemp("shards") / "out")


@pytest.mark.slow
@pytest.mark.parametrize("stage", STAGES)
def test_a_run_on_shards_has_the_weights_of_one_on_the_file(
    make_settings: MakeSettings, annotations: Path, shards: str, stage: Stage, tmp_path: Path
) -> None:
    occluders = OccluderSettings(annotations, (0.01, 1.0), 40) if stage == "content_completion" else OccluderSettings()
    data = DataSettings(annotations=annotations, occluders=occluders, **SIZE)
    file = make_settings(stage=stage, data=data, steps=3)
    packed = replace(file, output=tmp_path / "packed", data=replace(data, annotations=None, shards=shards))
    for settings in (file, packed):
        check_data_files(settings.data, stage)
        assert fit(settings).finished
    one, two = (state_of(checkpoint(settings, 3)) for settings in (file, packed))
    assert_equal(one, two)


@pytest.mark.slow
@pytest.mark.parametrize("processes", [1, 2, 3])
def test_each_sample_is_taken_once_across_a_kill(
    make_settings: MakeSettings, shards: str, tmp_path: Path, processes: int
) -> None:
    length = 7
    steps = -(-2 * length // (2 * processes))
    data = DataSettings(shards=shards, **SIZE)
    settings = make_settings(data=data, batch_size=2, steps=steps, checkpoint_every=1)
    config = tmp_path / "run.yaml"
    save_settings(settings, config)
    with forked("record_shards+kill", tmp_path / "first", "--config", str(config), processes=processes) as group:
        group.processes[0].join()
        assert group.processes[0].exitcode == -signal.SIGKILL
    fork("record_shards", tmp_path / "then", "--config", str(config), processes=processes)
    taken: list[int] = []
    # The checkpoint of the first step is whole, that of the second is not.
    for folder, rounds in (("first", 1), ("then", steps - 1)):
        read = [
            list(map(int, (tmp_path / folder / f"shards_{rank}.txt").read_text().split())) for rank in range(processes)
        ]
        for step in range(rounds):
            taken += [index for one in read for index in one[2 * step : 2 * step + 2]]
    assert sorted(taken[:length]) == sorted(taken[length : 2 * length]) == list(range(length))
    assert taken[:length] != taken[length : 2 * length]


@pytest.mark.slow
def test_a_mixture_goes_on_exactly_and_takes_each_data_set_by_its_weight(
    make_settings: MakeSettings, annotations: Path, shards: str, tmp_path: Path
) -> None:
    other = write_tracks(tmp_path, 1)
    mixture = (DatasetSettings(shards=shards, weight=3.0), DatasetSettings(annotations=other))
    whole = make_settings(data=DataSettings(mixture=mixture, **SIZE), steps=4, batch_size=1, checkpoint_every=2)
    save_settings(whole, tmp_path / "run.yaml")
    whole = load_settings(TrainingSettings, tmp_path / "run.yaml")
    assert whole.data.mixture == mixture
    clips = training_clips(whole)
    assert len(clips) == len(SailVosDataset(annotations, frames=4, with_rgb=False)) + len(
        SailVosDataset(other, frames=4, with_rgb=False)
    )
    assert fit(whole).finished
    halves = replace(whole, output=tmp_path / "halves", max_minutes=1e-9)
    assert fit(halves).step == 1
    assert fit(replace(halves, max_minutes=0.0)).finished
    assert_equal(*(state_of(checkpoint(settings, 4)) for settings in (whole, halves)))


def damage(shards: str, folder: Path, *numbers: int) -> str:
    shutil.copytree(shards, folder)
    for line in (folder / "manifest.jsonl").read_text().splitlines()[1:]:
        entry = json.loads(line)
        if entry["number"] in numbers:
            with (folder / entry["tar"]).open("r+b") as file:
                file.seek(entry["offset"] + 600)
                file.write(b"?")
    return str(folder)


@pytest.mark.slow
def test_damage_is_named_once_kept_in_the_checkpoint_and_limited(
    make_settings: MakeSettings, shards: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = damage(shards, tmp_path / "broken", 1, 4)
    data = DataSettings(shards=broken, **SIZE)
    settings = make_settings(data=data, steps=10, batch_size=2, on_bad_sample="skip", checkpoint_every=5)
    assert fit(replace(settings, max_minutes=1e-9)).step == 1
    assert fit(settings).finished  # two epochs and a half
    progress = state_of(checkpoint(settings, 10))["progress"]
    assert sorted(name[-8:] for name in progress["damaged"]["0"]) == ["00000001", "00000004"]
    assert progress["skipped_clips"] >= 4
    lines = [json.loads(line) for line in (settings.output / "log.jsonl").read_text().splitlines()]
    named = [name for line in lines if line.get("event") == "skipped clips" for name in line["clips"]]
    assert len(named) == 2
    assert all("damaged: its bytes differ from the SHA-256" in name for name in named)
    monkeypatch.setattr(damaged, "LEAST_TO_STOP", 2)
    with pytest.raises(InputError, match=r"2 of 7 clips of a data set cannot be read.*puts up with 1%"):
        fit(replace(settings, output=tmp_path / "limited"))


def test_damage_is_counted_by_data_set() -> None:
    order = MixedOrder([Part(5), Part(2000)], seed=0)

    def bad(index: int) -> BadClip:
        return BadClip(f"clip {index}", "gone", index)

    known, fresh = add_damaged({}, [bad(1), bad(7), bad(7)], order)
    assert known == {"0": ["clip 1"], "5": ["clip 7"]}
    assert fresh == [bad(1), bad(7)]
    assert add_damaged(known, [bad(7)], order) == (known, [])
    for number in range(8, 27):  # 20 clips, 1 % of 2000
        known, fresh = add_damaged(known, [bad(number)], order)
        assert excess_of_damage(fresh, known, order) is None
    known, fresh = add_damaged(known, [bad(27)], order)
    assert str(excess_of_damage(fresh, known, order)).startswith("data: 21 of 2000 clips of a data set cannot be read")
    few = {"0": [f"clip {index}" for index in range(15)]}
    assert excess_of_damage([bad(0)], few, ClipOrder(30, 0)) is None
    few["0"].append("clip 15")
    assert excess_of_damage([bad(0)], few, ClipOrder(30, 0)) is not None


@pytest.mark.slow
def test_depth_and_latents_of_shards_are_encoded_ahead(
    make_settings: MakeSettings, annotations: Path, shards: str, tmp_path: Path
) -> None:
    cache = tmp_path / "cache"
    data = DataSettings(annotations=annotations, cache=cache, **{**SIZE, "guide_dropout": 0.0})
    base = make_settings(data=data, steps=2)
    file = replace(base, model=replace(base.model, depth_model=str(tiny_depth_folder(tmp_path / "depth"))))
    packed = replace(file, output=tmp_path / "packed", data=replace(data, annotations=None, shards=shards))
    settings = PrecomputeSettings(**vars(packed))
    assert precompute(settings)
    made = len(list(cache.rglob("*.safetensors")))
    assert made > 0
    assert fit(packed).finished
    assert len(list(cache.rglob("*.safetensors"))) == made
    assert precompute(replace(settings, verify=True))
    assert fit(file).finished
    assert_equal(*(state_of(checkpoint(settings, 2)) for settings in (file, packed)))


def test_what_a_run_cannot_train_on_is_said_before_anything_is_loaded(
    annotations: Path, shards: str, tmp_path: Path
) -> None:
    def refused(message: str, stage: Stage = "amodal_segmentation", **changes: Any) -> None:
        with pytest.raises(InputError, match=message):
            check_data_files(DataSettings(**{**SIZE, **changes}), stage)

    refused(r"data\.shards: .*gone.*expected the folder or URL of finished shards", shards=str(tmp_path / "gone"))
    refused(r"data\.shards: expected samples of at least 9 frames, got one of 4", shards=shards, frames=9)
    refused(r"data\.shards: .*give data\.occluders\.annotations", stage="content_completion", shards=shards)
    refused(r"data\.annotations, data\.shards: both are given", annotations=annotations, shards=shards)
    refused(r"data\.images: expected data\.annotations beside it", shards=shards, images=tmp_path)
    refused(r"data\.depthless_share: changes generated scenes, but data\.shards", shards=shards, depthless_share=0.5)
    for settings in ({}, {"shards": shards, "annotations": annotations}, {"shards": shards, "weight": 0.0}):
        with pytest.raises(InputError, match=r"data\.mixture"):
            DatasetSettings(**settings)  # type: ignore[arg-type]
