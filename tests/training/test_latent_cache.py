"""What a run takes from its cache is what it would compute, and what has changed is computed."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from amodal_diffusion.basics import InputError, Stage
from amodal_diffusion.data.cache import TensorCache
from amodal_diffusion.data.records import read_records
from amodal_diffusion.models.depth import DepthEstimator
from amodal_diffusion.parsing import save_settings
from amodal_diffusion.training import latent_cache, latents
from amodal_diffusion.training.data_settings import DataSettings, OccluderSettings
from amodal_diffusion.training.dataset import TaskBatch
from amodal_diffusion.training.latent_cache import LatentCache
from amodal_diffusion.training.latents import LatentBatch, encode_batch
from amodal_diffusion.training.precompute import PrecomputeSettings, precompute
from amodal_diffusion.training.settings import (
    NoiseSettings,
    TrainingSettings,
    ValidationSettings,
)
from tests.factories import tiny_depth_folder, tiny_image_encoder, tiny_vae
from tests.tracks import write_tracks
from tests.training.conftest import MakeSettings, fit, reset_accelerate
from tests.training.launching import fork


@pytest.fixture(scope="module")
def depth_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_depth_folder(tmp_path_factory.mktemp("depth"))


@pytest.fixture
def make_run(make_settings: MakeSettings, depth_folder: Path, tmp_path: Path) -> Callable[..., TrainingSettings]:
    """A run of a stage on three tracks or more, with depth in stage 1 and a cache that is still empty."""
    annotations = write_tracks(tmp_path / "scenes", 3)

    def make(stage: Stage = "amodal_segmentation", **changes: Any) -> TrainingSettings:
        occluders = OccluderSettings(annotations, occlusion=(0.2, 0.9), tries=8)
        data = DataSettings(
            annotations=annotations,
            validation_annotations=annotations,
            frames=4,
            height=16,
            width=32,
            cache=tmp_path / "cache",
            occluders=occluders if stage == "content_completion" else OccluderSettings(),
        )
        settings = make_settings(stage=stage, data=data, steps=2, **changes)
        return replace(settings, model=replace(settings.model, depth_model=str(depth_folder)))

    return make


def _frame(folder: Path) -> Path:
    """A frame that a track has."""
    return folder / read_records(folder / "annotations.json")[0].image_file_names[0]


def _filled(settings: TrainingSettings, **changes: object) -> bool:
    reset_accelerate()
    values = {entry.name: getattr(settings, entry.name) for entry in fields(settings)}
    return precompute(PrecomputeSettings(**{**values, **changes}))


def _files(settings: TrainingSettings) -> dict[Path, int]:
    assert settings.data.cache is not None
    return {path: path.stat().st_mtime_ns for path in settings.data.cache.rglob("*") if path.is_file()}


def _steps(settings: TrainingSettings) -> list[dict[str, Any]]:
    assert fit(settings).finished
    lines = [json.loads(line) for line in (settings.output / "log.jsonl").read_text().splitlines()]
    return [{name: line[name] for name in ("loss", "gradient_norm")} for line in lines if "loss" in line]


def test_training_is_the_same_with_and_without_a_cache_and_computes_nothing_that_is_there(
    make_run: Callable[..., TrainingSettings], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = make_run(validation=ValidationSettings(every=2, clips=1))
    expected = _steps(replace(settings, output=tmp_path / "without", data=replace(settings.data, cache=None)))
    no_depth = replace(settings, model=replace(settings.model, depth_model=None), validation=ValidationSettings(0))
    assert expected[0] != _steps(replace(no_depth, output=tmp_path / "no_depth", steps=1))[0]  # depth makes a guide
    assert _filled(settings)
    before = _files(settings)
    assert before

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("computed")

    for name in ("encode_video", "clip_tokens"):
        monkeypatch.setattr(latent_cache, name, refuse)
    monkeypatch.setattr(latents, "encode_video", refuse)
    monkeypatch.setattr(DepthEstimator, "__call__", refuse)
    steps = _steps(settings)
    assert len(steps) == settings.steps
    for step, other in zip(steps, expected, strict=True):
        assert step == pytest.approx(other, rel=1e-6)
    assert _files(settings) == before  # training writes nothing there


def test_stage_2_takes_targets_alone(make_run: Callable[..., TrainingSettings], tmp_path: Path) -> None:
    settings = replace(make_run("content_completion"), steps=1)
    assert _filled(settings)
    shapes = {tuple(load_file(path)["value"].shape) for path in _files(settings)}
    assert shapes == {(4, 4, 8, 16)}  # latents of 4 frames at half the size
    without = replace(settings, output=tmp_path / "without", data=replace(settings.data, cache=None))
    assert _steps(settings)[0] == pytest.approx(_steps(without)[0], rel=1e-6)


def test_cached_latents_are_those_of_the_step_to_the_bit(tmp_path: Path) -> None:
    vae, encoder = tiny_vae(), tiny_image_encoder()
    cache = LatentCache(TensorCache(tmp_path), vae=vae, image_encoder=encoder, precision="no")
    video = torch.rand(3, 2, 4, 1, 16, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1
    batch = TaskBatch(video[0], video[1], video[2], torch.ones(2, dtype=torch.bool))
    with torch.no_grad():  # of the first clip both, of the second the tokens alone: the rest is computed
        assert cache.storage.fill(cache.latents_entry(batch.amodal[0]))
        assert all(cache.storage.fill(cache.tokens_entry(clip)) for clip in batch.modal)

    def encoded(cache: LatentCache | None) -> LatentBatch:
        generators = [torch.Generator().manual_seed(index) for index in range(2)]
        noise = NoiseSettings()
        return encode_batch(batch, vae=vae, image_encoder=encoder, noise=noise, generators=generators, cache=cache)

    with_cache, without = encoded(cache), encoded(None)
    for entry in fields(LatentBatch):
        assert torch.equal(getattr(with_cache, entry.name), getattr(without, entry.name))


def test_filling_goes_on_and_verify_finds_what_is_wrong(
    make_run: Callable[..., TrainingSettings], caplog: pytest.LogCaptureFixture
) -> None:
    settings = make_run()
    caplog.set_level("INFO")
    assert not _filled(settings, verify=True)
    assert not _files(settings)
    assert _filled(settings, count=1)
    first = _files(settings)
    assert _filled(settings)
    whole = _files(settings)
    assert len(first) < len(whole)
    assert first.items() <= whole.items()
    assert _filled(settings, verify=True)
    removed, damaged = list(whole)[:2]
    removed.unlink()
    damaged.write_bytes(damaged.read_bytes()[:-1])
    caplog.clear()
    assert not _filled(settings, verify=True)
    wrong = [record.getMessage() for record in caplog.records if "missing" in record.getMessage()]
    assert "annotations.json: track" in wrong[0]
    assert wrong[-1].startswith("intact: ")
    assert not wrong[-1].endswith("missing: 0, damaged: 0")
    assert _filled(settings)
    assert set(_files(settings)) == set(whole)
    assert _filled(settings, verify=True)


def test_a_changed_frame_network_or_setting_is_made_anew(
    make_run: Callable[..., TrainingSettings], tmp_path: Path
) -> None:
    settings = make_run()
    assert _filled(settings)
    written = set(_files(settings))

    frame = _frame(tmp_path / "scenes")
    pixels = np.array(Image.open(frame))
    pixels[0, 0] ^= 1
    Image.fromarray(pixels).save(frame)
    assert not _filled(settings, verify=True)
    assert _filled(settings)
    new = set(_files(settings)) - written
    assert {tuple(load_file(path)["value"].shape) for path in new} == {(16, 32)}  # the depth of one frame

    vae = tiny_vae()
    vae.register_to_config(scaling_factor=0.75)
    vae.save_pretrained(tmp_path / "vae")
    encoder = replace(settings.model.new_image_encoder, seed=1)
    for change in (
        {"model": replace(settings.model, vae=tmp_path / "vae")},
        {"model": replace(settings.model, new_image_encoder=encoder)},
        {"data": replace(settings.data, width=48)},
        {"data": replace(settings.data, frames=3)},
        {"mixed_precision": "bf16"},
    ):
        assert not _filled(replace(settings, **change), verify=True)
    assert _filled(settings, verify=True)


def test_disk_use_is_said_before_and_too_little_refused(
    make_run: Callable[..., TrainingSettings], caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = make_run()
    caplog.set_level("INFO")
    assert _filled(settings)
    said = next(record.getMessage() for record in caplog.records if "are free" in record.getMessage())
    clips = int(said.split(": ")[1].split()[0])
    value_bytes = sum(load_file(path)["value"].nbytes for path in _files(settings))
    clip = 4 * 4 * (4 * 8 * 16 + 8 + 16 * 32)
    assert clips > 1
    assert value_bytes <= clips * clip
    assert f"at most {clip / 2**20:.2f} MiB" in said
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("Use", (), {"free": 1})())
    with pytest.raises(InputError, match=r"may need .* more, 0\.00 MiB are free"):
        _filled(replace(settings, data=replace(settings.data, cache=settings.output / "other")))


def test_what_cannot_be_read_or_kept_is_said(
    make_run: Callable[..., TrainingSettings], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    content = make_run("content_completion")
    with pytest.raises(InputError, match=r"sampling\.fit: .* no clip can be encoded before"):
        _filled(replace(content, sampling=replace(content.sampling, fit="crop")))
    settings = make_run()
    with pytest.raises(InputError, match=r"as data\.cache names none; give --out DIR"):
        _filled(replace(settings, data=replace(settings.data, cache=None)))
    frame = _frame(tmp_path / "scenes")
    frame.write_bytes(b"no picture")
    with pytest.raises(InputError, match=frame.name):
        _filled(settings)
    assert _filled(settings, on_bad_sample="skip")
    assert "left out" in caplog.text
    caplog.set_level("INFO")
    frame.unlink()
    assert not _filled(settings, verify=True)
    assert "cannot be read: " in caplog.text


def test_two_processes_share_out_the_tracks(make_run: Callable[..., TrainingSettings], tmp_path: Path) -> None:
    settings = make_run()
    save_settings(settings, tmp_path / "run.yaml")
    printed = fork("precompute", tmp_path, "--config", str(tmp_path / "run.yaml"))
    assert printed.count("are free") == 1
    assert printed.count("clips of this process") == 2
    assert _filled(settings, verify=True)
