"""Encoded scenes: read back as written, and not found under other settings or networks."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from amodal_diffusion.basics import InputError
from amodal_diffusion.data.cache import TensorCache
from amodal_diffusion.models.hub import StageComponents
from amodal_diffusion.parsing import load_settings
from amodal_diffusion.training.clip_sources import training_clips
from amodal_diffusion.training.encoded_scenes import EncodedScenes
from amodal_diffusion.training.latents import LatentBatch, encode_batch
from amodal_diffusion.training.networks import build_components
from amodal_diffusion.training.order import seeded_generator
from amodal_diffusion.training.precompute import PrecomputeSettings, precompute
from amodal_diffusion.training.run_settings import Precision
from amodal_diffusion.training.settings import NoiseSettings, TrainingSettings
from tests.training.conftest import MakeSettings


@pytest.fixture
def cached(make_settings: MakeSettings, tmp_path: Path) -> TrainingSettings:
    """Four scenes and a folder for them, which is still empty."""
    settings = make_settings(steps=2)
    return replace(settings, data=replace(settings.data, clips=4, cache=tmp_path / "cache"))


def filled(settings: TrainingSettings, **changes: object) -> bool:
    values = {entry.name: getattr(settings, entry.name) for entry in fields(TrainingSettings)}
    return precompute(PrecomputeSettings(**{**values, **changes}))


def scenes_of(settings: TrainingSettings, components: StageComponents) -> EncodedScenes:
    assert settings.data.cache is not None
    return EncodedScenes(settings, TensorCache(settings.data.cache), components)


@pytest.mark.parametrize("precision", ["no", "bf16"])
def test_stored_scenes_are_those_of_the_split_with_their_own_noise(
    precision: Precision, cached: TrainingSettings
) -> None:
    cached = replace(cached, mixed_precision=precision)
    filled(cached)
    components = build_components(cached)
    scenes, clips = scenes_of(cached, components), training_clips(cached)
    scenes.check()
    assert len(scenes) == len(clips) == 4
    for index in (0, 3):
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=precision == "bf16"):
            expected = encode_batch(
                clips[index],
                vae=components.vae,
                image_encoder=components.image_encoder,
                noise=cached.noise,
                generators=[seeded_generator("precompute", cached.seed, index)],
            ).to("cpu", torch.float16)
        for entry in fields(LatentBatch):
            assert torch.equal(getattr(scenes[index], entry.name), getattr(expected, entry.name))


def test_filling_goes_on_where_it_stopped_and_verify_finds_damage(cached: TrainingSettings) -> None:
    assert filled(cached, count=2)
    scenes = scenes_of(cached, build_components(cached))
    with pytest.raises(InputError, match="lacks 2 of 4 scenes of these settings and networks; run train/precompute"):
        scenes.check()
    assert not filled(cached, verify=True)
    assert filled(cached, verify=True, count=2)
    first, second = (scenes.storage.path(scenes.key(index)) for index in (0, 1))
    written = first.stat().st_mtime_ns
    save_file({"value": scenes.storage.get(scenes.entry(0, build_components(cached)))}, second)
    with pytest.raises(InputError, match="missing or damaged in "):
        scenes[1]
    assert not filled(cached, verify=True)
    assert filled(cached)
    assert filled(cached, verify=True)
    assert first.stat().st_mtime_ns == written


def test_a_scene_of_other_settings_or_networks_is_another(cached: TrainingSettings) -> None:
    components = build_components(cached)
    data, sampling = cached.data, cached.sampling
    prior = replace(sampling, beyond=replace(sampling.beyond, temporal_prior=True))
    changed = (
        replace(cached, stage="content_completion"),
        replace(cached, seed=1),
        replace(cached, mixed_precision="bf16"),
        replace(cached, noise=NoiseSettings(condition_log_mean=-2.0)),
        replace(cached, noise=NoiseSettings(condition_log_std=0.4)),
        replace(cached, sampling=prior),
        replace(cached, sampling=replace(sampling, fit="crop")),
        *(replace(cached, data=replace(data, **{name: 1})) for name in ("seed", "degraded_share", "depthless_share")),
        *(replace(cached, data=replace(data, **{name: 64})) for name in ("frames", "height", "width")),
    )
    keys = {scenes_of(settings, components).key(0) for settings in (cached, *changed)}
    cropped = replace(cached, sampling=replace(sampling, fit="crop"), data=replace(data, scene_height=32))
    keys.add(scenes_of(cropped, components).key(0))
    with torch.no_grad():
        next(components.vae.parameters()).flatten()[0] += 1e-6
    keys.add(scenes_of(cached, components).key(0))
    with torch.no_grad():
        next(components.image_encoder.parameters()).flatten()[0] += 1e-6
    keys.add(scenes_of(cached, components).key(0))
    assert len(keys) == len(changed) + 4
    unrelated = replace(cached, data=replace(data, clips=9, guide_dropout=0.1, workers=1, scene_height=32))
    assert scenes_of(unrelated, components).key(1) == scenes_of(cached, components).key(1)


def test_what_version_0_1_called_otherwise_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "run.yaml").write_text("data: {latents: runs/latents}")
    with pytest.raises(InputError, match=r"^data\.latents: unknown; give data\.cache, and run train/precompute\.py"):
        load_settings(TrainingSettings, tmp_path / "run.yaml")
    (tmp_path / "run.yaml").write_text("shard_size: 64")
    with pytest.raises(InputError, match="shard_size: unknown; leave it out"):
        load_settings(PrecomputeSettings, tmp_path / "run.yaml")


def test_without_a_folder_nothing_is_encoded() -> None:
    with pytest.raises(InputError, match="give --out DIR"):
        precompute(PrecomputeSettings())
