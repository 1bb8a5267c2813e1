"""Stored latents: read back as written, refused where they were made by other networks or settings."""

from __future__ import annotations

import json
from dataclasses import fields, replace
from pathlib import Path

import pytest
import torch

from amodal_diffusion.training.batches import seeded_generator
from amodal_diffusion.training.dataset import training_clips
from amodal_diffusion.training.latents import LatentBatch, encode_batch
from amodal_diffusion.training.networks import build_components
from amodal_diffusion.training.precompute import PrecomputeSettings, precompute
from amodal_diffusion.training.settings import NoiseSettings, TrainingSettings
from amodal_diffusion.training.shards import SETTINGS_FILE, LatentSettings, LatentShards, digest
from amodal_diffusion.types import InputError
from tests.factories import tiny_vae
from tests.training.conftest import MakeSettings


def filled(settings: TrainingSettings, out: Path, **changes: object) -> PrecomputeSettings:
    values = {entry.name: getattr(settings, entry.name) for entry in fields(settings)}
    wanted = PrecomputeSettings(
        **{**values, "out": out, "count": 4, "shard_size": 2, "encode_batch_size": 2, **changes}
    )
    precompute(wanted)
    return wanted


def latent_settings(settings: TrainingSettings) -> LatentSettings:
    return LatentSettings.of(settings, build_components(settings))


def test_stored_clips_are_those_of_the_scenes_with_their_own_noise(make_settings: MakeSettings, tmp_path: Path) -> None:
    settings = make_settings()
    filled(settings, tmp_path / "latents")
    shards = LatentShards(tmp_path / "latents", latent_settings(settings), length=4)
    components, clips = build_components(settings), training_clips(settings)
    assert len(shards) == 4
    for index in (0, 3):
        expected = encode_batch(
            clips[index],
            vae=components.vae,
            image_encoder=components.image_encoder,
            noise=settings.noise,
            generators=[seeded_generator("precompute", settings.seed, index)],
        )
        for entry in fields(LatentBatch):
            stored = getattr(shards[index], entry.name)
            assert stored.dtype == torch.float16
            torch.testing.assert_close(stored.float(), getattr(expected, entry.name), atol=2e-3, rtol=2e-3)


def test_filling_goes_on_where_it_stopped(make_settings: MakeSettings, tmp_path: Path) -> None:
    settings = make_settings()
    filled(settings, tmp_path, count=2)
    first = tmp_path / "000000.safetensors"
    written = first.stat().st_mtime_ns
    (tmp_path / "000001.safetensors.partial").write_bytes(b"half")
    with pytest.raises(InputError, match=r"lacks 1 shards for 4 clips, the first of them 000001\.safetensors"):
        LatentShards(tmp_path, latent_settings(settings), length=4)
    filled(settings, tmp_path)
    assert first.stat().st_mtime_ns == written
    assert len(LatentShards(tmp_path, latent_settings(settings), length=4)) == 4


def test_verify_finds_missing_and_damaged_shards(make_settings: MakeSettings, tmp_path: Path) -> None:
    settings = make_settings()
    wanted = filled(settings, tmp_path)
    check = replace(wanted, verify=True)
    assert precompute(check)
    assert not precompute(replace(check, count=6))
    second = tmp_path / "000001.safetensors"
    second.write_bytes(second.read_bytes()[:-1])
    assert not precompute(check)
    assert second.is_file()  # a check changes nothing


def test_other_settings_or_networks_are_refused(make_settings: MakeSettings, tmp_path: Path) -> None:
    settings = make_settings()
    filled(settings, tmp_path, count=2)
    stored = latent_settings(settings)
    for change in (
        {"vae": "0" * 16},
        {"image_encoder": "0" * 16},
        {"condition_log_mean": -2.0},
        {"degraded_share": 0.5},
        {"depthless_share": 0.5},
        {"frames": 5},
        {"stage": "content_completion"},
        {"noise_seed": 1},
        {"following": 1},
        {"scenes": 1},
    ):
        with pytest.raises(InputError, match=f"{next(iter(change))} .* instead of"):
            LatentShards(tmp_path, replace(stored, **change), length=2)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="condition_log_mean"):
        filled(replace(settings, noise=NoiseSettings(condition_log_mean=-2.0)), tmp_path)
    with pytest.raises(InputError, match="shards of another size"):
        filled(settings, tmp_path, shard_size=3)


def test_a_folder_that_was_never_filled_is_refused(make_settings: MakeSettings, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"has no settings\.json; fill it with train/precompute\.py"):
        LatentShards(tmp_path, latent_settings(make_settings()), length=2)
    with pytest.raises(InputError, match="give --out DIR"):
        precompute(PrecomputeSettings())


def test_the_digest_follows_every_weight_and_the_scaling_factor() -> None:
    vae = tiny_vae()
    first = digest(vae)
    assert digest(tiny_vae()) == first
    vae.register_to_config(scaling_factor=0.75)
    assert digest(vae) != first
    changed = tiny_vae()
    with torch.no_grad():
        next(changed.parameters()).flatten()[0] += 1e-6
    assert digest(changed) != first


def test_a_folder_that_does_not_say_holds_exact_scenes(make_settings: MakeSettings, tmp_path: Path) -> None:
    settings = make_settings()
    filled(settings, tmp_path, count=2)
    path = tmp_path / SETTINGS_FILE
    stored = json.loads(path.read_text())
    del stored["degraded_share"], stored["depthless_share"]
    path.write_text(json.dumps(stored))
    exact = latent_settings(settings)
    assert len(LatentShards(tmp_path, exact, length=2)) == 2
    with pytest.raises(InputError, match=r"degraded_share 0\.0 instead of 0\.5"):
        LatentShards(tmp_path, replace(exact, degraded_share=0.5), length=2)
