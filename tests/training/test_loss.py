"""The loss: EDM as the samplers compute it, clip by clip, with dropout as often as it should be."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from amodal_diffusion import edm
from amodal_diffusion.training.latents import LatentBatch
from amodal_diffusion.training.loss import HiddenWeight, PixelLoss, training_loss
from amodal_diffusion.training.order import seeded_generator
from amodal_diffusion.training.settings import NoiseSettings
from tests.factories import TOKEN_WIDTH, tiny_scheduler, tiny_unet

FRAMES, HEIGHT, WIDTH = 3, 8, 8


class Spy(nn.Module):
    """Answers with a function of what the UNet is given, and remembers that."""

    def __init__(self, answer: Callable[[Tensor, Tensor], Tensor] = lambda sample, _: sample[:, :, :4] * 0) -> None:
        super().__init__()
        self.answer = answer
        self.sample = self.timestep = self.tokens = self.ids = torch.empty(0)

    def forward(
        self,
        sample: Tensor,
        timestep: Tensor,
        *,
        encoder_hidden_states: Tensor,
        added_time_ids: Tensor,
        return_dict: bool,
    ) -> tuple[Tensor]:
        assert not return_dict
        self.sample, self.timestep, self.tokens, self.ids = sample, timestep, encoder_hidden_states, added_time_ids
        return (self.answer(sample, timestep),)


def latents(number: int = 2, *, size: int = HEIGHT) -> LatentBatch:
    source = torch.Generator().manual_seed(1)
    video = [torch.randn(number, FRAMES, 4, size, size, generator=source) for _ in range(3)]
    tokens = torch.randn(number, FRAMES, TOKEN_WIDTH, generator=source)
    return LatentBatch(*video, tokens, torch.full((number,), 0.05))


def generators(*counts: int) -> list[torch.Generator]:
    return [seeded_generator("training", 0, count) for count in counts]


def loss_of(unet: nn.Module, batch: LatentBatch, *counts: int, dropout: float = 0.0) -> Tensor:
    return training_loss(
        unet, batch, noise=NoiseSettings(), conditioning_dropout=dropout, generators=generators(*counts)
    )


def test_denoised_is_what_the_scheduler_makes_of_the_same_output(monkeypatch: pytest.MonkeyPatch) -> None:
    scheduler = tiny_scheduler()
    scheduler.set_timesteps(7)
    batch, unet = latents(1), tiny_unet()
    for step in (0, 3, 6):
        scheduler._step_index = None
        sigma, timestep = scheduler.sigmas[step], scheduler.timesteps[step]
        monkeypatch.setattr(edm, "sample_sigma", lambda *_, sigma=sigma, **__: sigma.reshape(1))
        noise = torch.randn(batch.target.shape[1:], generator=generators(0)[0])
        noisy = batch.target + sigma * noise
        with torch.no_grad():
            output = unet(
                torch.cat([scheduler.scale_model_input(noisy, timestep), batch.modal, batch.guide], dim=2),
                timestep,
                encoder_hidden_states=batch.tokens,
                added_time_ids=torch.tensor([[8.0, 127.0, 0.05]]),
            ).sample
            denoised = scheduler.step(output, timestep, noisy).pred_original_sample
            expected = ((1 + sigma**2) / sigma**2 * (denoised - batch.target) ** 2).mean()
            loss = loss_of(unet, batch, 0)
        torch.testing.assert_close(loss, expected, atol=1e-6, rtol=1e-4)


def test_a_network_that_knows_the_answer_has_no_loss() -> None:
    batch = latents()

    def answer(sample: Tensor, timestep: Tensor) -> Tensor:
        sigma = (4 * timestep).exp()[:, None, None, None, None]
        noisy = sample[:, :, :4] / edm.c_in(sigma)
        return (batch.target - edm.c_skip(sigma) * noisy) / edm.c_out(sigma)

    assert float(loss_of(Spy(answer), batch, 0, 1)) < 1e-6


def test_the_network_is_given_what_inference_gives_it() -> None:
    spy, batch = Spy(), latents()
    loss_of(spy, batch, 0, 1)
    assert spy.sample.shape == (2, FRAMES, 12, HEIGHT, WIDTH)
    assert torch.equal(spy.sample[:, :, 4:8], batch.modal)
    assert torch.equal(spy.sample[:, :, 8:], batch.guide)
    assert torch.equal(spy.tokens, batch.tokens)
    torch.testing.assert_close(spy.ids, torch.tensor([[8.0, 127.0, 0.05]] * 2))
    assert spy.timestep.shape == (2,)


def test_the_loss_of_a_batch_is_the_mean_of_its_clips() -> None:
    unet, batch = tiny_unet(), latents()
    with torch.no_grad():
        both = loss_of(unet, batch, 5, 6, dropout=0.2)
        singles = [
            loss_of(unet, LatentBatch(*(value[row : row + 1] for value in vars(batch).values())), count, dropout=0.2)
            for row, count in enumerate((5, 6))
        ]
    torch.testing.assert_close(both, torch.stack(singles).mean(), atol=1e-5, rtol=1e-5)


def test_conditions_are_dropped_as_the_specification_says() -> None:
    number, probability = 4000, 0.1
    spy, batch = Spy(), latents(number, size=1)
    loss_of(spy, batch, *range(number), dropout=probability)
    no_tokens = (spy.tokens == 0).all(dim=(1, 2))
    no_latents = (spy.sample[:, :, 4:] == 0).flatten(1).all(dim=1)
    error = 4 * (0.2 * 0.8 / number) ** 0.5
    assert abs(float(no_tokens.float().mean()) - 2 * probability) < error
    assert abs(float(no_latents.float().mean()) - 2 * probability) < error
    assert abs(float((no_tokens & no_latents).float().mean()) - probability) < error


def test_noise_levels_have_the_distribution_of_the_specification() -> None:
    number = 4000
    spy = Spy()
    loss_of(spy, latents(number, size=1), *range(number))
    logs = 4 * spy.timestep
    assert abs(float(logs.mean()) - 0.7) < 4 * 1.6 / number**0.5
    assert abs(float(logs.std()) - 1.6) < 0.08


def test_every_parameter_gets_a_gradient() -> None:
    unet = tiny_unet().train()
    loss_of(unet, latents(), 0, 1).backward()
    assert [name for name, value in unet.named_parameters() if value.grad is None] == []


def test_pixels_count_in_the_loss_clip_by_clip() -> None:
    batch = latents()
    pixels = PixelLoss(decode=lambda values: 3 * values[:, :, :3], weight=0.5, frames=2)

    def loss(rows: slice, counts: tuple[int, ...], added: PixelLoss | None) -> Tensor:
        clips = LatentBatch(*(value[rows] for value in vars(batch).values()))
        return training_loss(
            Spy(), clips, noise=NoiseSettings(), conditioning_dropout=0.0, generators=generators(*counts), pixels=added
        )

    both = loss(slice(0, 2), (5, 6), pixels)
    singles = [loss(slice(row, row + 1), (5 + row,), pixels) for row in range(2)]
    torch.testing.assert_close(both, torch.stack(singles).mean())
    added = both - loss(slice(0, 2), (5, 6), None)
    twice = loss(slice(0, 2), (5, 6), replace(pixels, weight=1.0)) - loss(slice(0, 2), (5, 6), None)
    assert float(added) > 0
    torch.testing.assert_close(twice, 2 * added)


def test_what_the_condition_does_not_show_weighs_more() -> None:
    batch = latents()
    modal = batch.target / 0.5
    modal[:, :, :, 0] += 8.0  # the first row of cells is hidden
    batch = replace(batch, modal=modal)
    cells = HiddenWeight(3.0, 0.5)(batch)
    assert cells.shape == (2, FRAMES, 1, HEIGHT, WIDTH)
    torch.testing.assert_close(cells.mean(dim=(1, 2, 3, 4)), torch.ones(2))
    torch.testing.assert_close(cells[:, :, :, 0] / cells[:, :, :, 1], torch.full((2, FRAMES, 1, WIDTH), 4.0))
    known = PixelLoss(decode=lambda values: values[:, :, :3].repeat_interleave(2, -1), weight=1.0, frames=1)
    off = batch.target.clone()
    off[:, :, :, 0] += 1.0
    plain = known(off, batch.target, generators(0, 1))
    weighted = known(off, batch.target, generators(0, 1), cells=cells)
    torch.testing.assert_close(
        weighted[:, :, :, 0] / plain[:, :, :, 0], cells[0, 0, 0, 0, 0].expand(2, 1, 3, 2 * WIDTH)
    )
    loss = [
        training_loss(
            Spy(), batch, noise=NoiseSettings(), conditioning_dropout=0.0, generators=generators(0, 1), hidden=hidden
        )
        for hidden in (None, HiddenWeight(0.0, 0.5), HiddenWeight(3.0, 0.5))
    ]
    assert loss[0] == loss[1] != loss[2]


def test_pixels_of_a_known_answer_cost_nothing_and_frames_are_drawn() -> None:
    seen: list[Tensor] = []

    def decode(values: Tensor) -> Tensor:
        seen.append(values)
        return values[:, :, :3]

    target = latents().target
    assert not PixelLoss(decode, 1.0, 2)(target, target, generators(0, 1)).any()
    assert all(values.shape == (2, 2, 4, HEIGHT, WIDTH) for values in seen)
    assert PixelLoss(decode, 1.0, 99)(target, target, generators(0, 1)).shape[1] == FRAMES


def test_decoded_frames_are_neighbors_in_their_order() -> None:
    seen: list[Tensor] = []

    def decode(values: Tensor) -> Tensor:
        seen.append(values[..., 0, 0, 0])
        return values[:, :, :3]

    total = 6
    target = torch.arange(total).float()[None, :, None, None, None].expand(40, -1, 4, 2, 2)
    PixelLoss(decode, 1.0, 3)(target, target, generators(*range(40)))
    for runs in seen:
        assert torch.equal(runs.diff(dim=1), torch.ones(40, 2))
        assert set(runs[:, 0].tolist()) == {0.0, 1.0, 2.0, 3.0}  # every run there is
    assert torch.equal(seen[0], seen[1])  # of the prediction and of the target alike
