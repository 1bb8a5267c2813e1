"""Encoded clips: what is scaled, what is noisy, what is left out."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import pytest
import torch

from amodal_diffusion.models.conditioning import Conditions, build_conditions
from amodal_diffusion.models.latents import encode_video
from amodal_diffusion.training import latents
from amodal_diffusion.training.batches import Counted
from amodal_diffusion.training.dataset import TaskBatch
from amodal_diffusion.training.latents import LatentBatch, drop_guide, encode_batch, join_latents, reverse_time
from amodal_diffusion.training.order import seeded_generator
from amodal_diffusion.training.settings import NoiseSettings
from tests.factories import TOKEN_WIDTH, tiny_image_encoder, tiny_vae

VAE, ENCODER = tiny_vae(), tiny_image_encoder()
QUIET = NoiseSettings(condition_log_mean=-60.0)


def generators(*counts: int) -> list[torch.Generator]:
    return [seeded_generator("training", 0, count) for count in counts]


def clips(number: int = 2, *, present: bool = True) -> TaskBatch:
    video = torch.rand(3, number, 3, 1, 16, 32, generator=seeded_generator("training", 9, 0)) * 2 - 1
    return TaskBatch(video[0], video[1], video[2], torch.full((number,), present))


def encode(batch: TaskBatch, noise: NoiseSettings, *counts: int) -> LatentBatch:
    return encode_batch(batch, vae=VAE, image_encoder=ENCODER, noise=noise, generators=generators(*counts))


def test_only_the_target_is_multiplied() -> None:
    batch = clips()
    with torch.no_grad():
        encoded = encode(batch, QUIET, 0, 1)
        torch.testing.assert_close(encoded.target, encode_video(VAE, batch.amodal) * VAE.config.scaling_factor)
        torch.testing.assert_close(encoded.modal, encode_video(VAE, batch.modal))
        torch.testing.assert_close(encoded.guide, encode_video(VAE, batch.guide))
    assert encoded.target.shape == (2, 3, 4, 8, 16)
    assert encoded.tokens.shape == (2, 3, TOKEN_WIDTH)


def test_conditions_are_those_of_inference_at_the_drawn_strength() -> None:
    batch, ours = clips(1), generators(5)
    encoded = encode_batch(batch, vae=VAE, image_encoder=ENCODER, noise=NoiseSettings(), generators=ours)
    theirs = generators(5)
    torch.randn(1, generator=theirs[0])  # the draw of the strength comes first
    with torch.no_grad():
        conditions = build_conditions(
            batch.modal,
            batch.guide,
            vae=VAE,
            image_encoder=ENCODER,
            noise_aug_strength=encoded.noise_aug_strength,
            generator=theirs,
        )
    assert torch.equal(torch.cat([encoded.modal, encoded.guide], dim=2), conditions.latents)
    assert torch.equal(encoded.tokens, conditions.tokens)


def test_the_noise_of_the_conditions_has_the_distribution_of_the_specification(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    number = 2000
    made = Conditions(torch.zeros(number, 1, 8, 1, 1), torch.zeros(number, 1, 2), torch.zeros(number, 3))
    monkeypatch.setattr(latents, "build_conditions", lambda *_, **__: made)  # the draws alone
    monkeypatch.setattr(latents, "encode_video", lambda *_: torch.zeros(number, 1, 4, 1, 1))
    video = torch.zeros(number, 1, 1, 2, 2)
    batch = TaskBatch(video, video, video, torch.ones(number, dtype=torch.bool))
    logs = encode(batch, NoiseSettings(), *range(number)).noise_aug_strength.log()
    assert abs(float(logs.mean()) + 3.0) < 4 * 0.5 / number**0.5
    assert abs(float(logs.std()) - 0.5) < 4 * 0.5 / (2 * number) ** 0.5


def test_a_batch_of_two_equals_two_singles() -> None:
    batch = clips()
    both = encode(batch, NoiseSettings(), 3, 4)
    for index, count in enumerate((3, 4)):
        rows = slice(index, index + 1)
        alone = TaskBatch(batch.modal[rows], batch.guide[rows], batch.amodal[rows], batch.guide_present[rows])
        single = encode(alone, NoiseSettings(), count)
        for entry in fields(single):
            torch.testing.assert_close(
                getattr(single, entry.name), getattr(both, entry.name)[rows], atol=1e-5, rtol=1e-5
            )


def test_a_clip_without_guide_has_guide_latents_of_zero_and_encodes_none(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = encode(clips(), NoiseSettings(), 0, 1)
    batch, ours, theirs = clips(), generators(0, 1), generators(0, 1)
    batch = replace(batch, guide_present=torch.tensor([False, True]))
    encoded_clips: list[int] = []

    def counted(vae: Any, video: torch.Tensor, **options: Any) -> torch.Tensor:
        encoded_clips.append(len(video))
        return encode_video(vae, video, **options)

    monkeypatch.setattr("amodal_diffusion.models.conditioning.encode_video", counted)
    one = encode_batch(batch, vae=VAE, image_encoder=ENCODER, noise=NoiseSettings(), generators=ours)
    assert encoded_clips == [2, 1]  # both modal videos, one guide
    assert not one.guide[0].any()
    assert torch.equal(one.guide[1], whole.guide[1])
    assert torch.equal(one.modal, whole.modal)
    encoded_clips.clear()
    encode_batch(clips(present=False), vae=VAE, image_encoder=ENCODER, noise=NoiseSettings(), generators=theirs)
    assert encoded_clips == [2]
    for mine, other in zip(ours, theirs, strict=True):  # later draws do not depend on the guide
        assert torch.equal(mine.get_state(), other.get_state())


def test_conditions_are_encoded_in_bfloat16_and_targets_exactly() -> None:
    batch, vae = clips(), tiny_vae()
    vae.register_to_config(force_upcast=True)
    found = {}
    for dtype in (torch.float32, torch.bfloat16):
        with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
            found[dtype] = encode_batch(batch, vae=vae, image_encoder=ENCODER, noise=QUIET, generators=generators(0, 1))
    exact, mixed = found[torch.float32], found[torch.bfloat16]
    assert torch.equal(mixed.target, exact.target)
    for name in ("modal", "guide"):
        assert not torch.equal(getattr(mixed, name), getattr(exact, name))
        torch.testing.assert_close(getattr(mixed, name), getattr(exact, name), atol=0.05, rtol=0.05)


def test_batches_are_pinned_tensor_by_tensor(monkeypatch: pytest.MonkeyPatch) -> None:
    pinned: list[torch.Size] = []

    def pin(value: torch.Tensor) -> torch.Tensor:
        pinned.append(value.shape)
        return value + 1

    monkeypatch.setattr(torch.Tensor, "pin_memory", pin)
    batch = clips()
    latent = LatentBatch(*(torch.zeros(1) for _ in fields(LatentBatch)))
    one, other, rest = Counted([0, 1, 2], ["a", "b", "c"], [batch, latent, "d"], []).pin_memory().clips
    assert torch.equal(one.modal, batch.modal + 1)
    assert torch.equal(one.guide_present, batch.guide_present)
    assert all(bool(getattr(other, entry.name) == 1) for entry in fields(LatentBatch))
    assert rest == "d"
    assert len(pinned) == 3 + 5


def test_the_guide_is_left_out_for_the_given_share() -> None:
    number = 2000
    batch = LatentBatch(
        *(torch.ones(number, 1, 4, 1, 1) for _ in range(3)), torch.ones(number, 1, 2), torch.ones(number)
    )
    kept = drop_guide(batch, 0.3, generators=generators(*range(number)))
    share = 1 - float(kept.guide.mean())
    assert abs(share - 0.3) < 0.04  # four standard errors
    assert set(kept.guide.flatten(1).mean(1).tolist()) == {0.0, 1.0}
    assert torch.equal(kept.modal, batch.modal)
    assert drop_guide(batch, 0.0, generators=generators(*range(number))).guide.all()
    assert not drop_guide(batch, 1.0, generators=generators(*range(number))).guide.any()


def test_clips_are_reversed_whole_for_the_given_share() -> None:
    number, frames = 2000, 3
    count = torch.arange(float(frames))
    video = count.view(1, frames, 1, 1, 1).expand(number, frames, 4, 1, 1)
    batch = LatentBatch(video, video, video, count.view(1, frames, 1).expand(number, frames, 2), torch.ones(number))
    turned = reverse_time(batch, 0.3, generators=generators(*range(number)))
    backwards = turned.target[:, 0, 0, 0, 0] == frames - 1
    assert abs(float(backwards.float().mean()) - 0.3) < 0.04  # four standard errors
    for entry in (turned.target, turned.modal, turned.guide, turned.tokens):
        first = entry.flatten(2)[:, :, 0]  # [B, F]
        assert torch.equal(first[backwards], count.flip(0).expand(int(backwards.sum()), frames))
        assert torch.equal(first[~backwards], count.expand(int((~backwards).sum()), frames))
    assert reverse_time(batch, 0.0, generators=generators(*range(number))) is batch


def test_join_and_move() -> None:
    batch = encode(clips(1), QUIET, 0)
    joined = join_latents([batch, batch]).to("cpu", torch.float16)
    assert joined.target.shape[0] == 2
    assert joined.noise_aug_strength.dtype == torch.float16
