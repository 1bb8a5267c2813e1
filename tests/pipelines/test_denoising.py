"""The denoising loop: shapes, randomness, batches, both conditioning modes, bad input."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from diffusers import EDMDPMSolverMultistepScheduler, EDMEulerScheduler

from amodal_diffusion.pipelines.denoising import ConditionedVideoPipeline
from amodal_diffusion.types import InputError
from tests.factories import SAMPLING, TOKEN_WIDTH, tiny_components


def _pipeline(conditioning: str = "corrected", scheduler: Any = None) -> ConditionedVideoPipeline:
    parts = tiny_components()
    pipeline = ConditionedVideoPipeline(
        parts.vae,
        parts.image_encoder,
        parts.unet,
        scheduler or parts.scheduler,
        sampling=SAMPLING,
        conditioning=conditioning,  # type: ignore[arg-type]
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def _video(batch: int = 2, frames: int = 3, *, seed: int = 0, size: tuple[int, int] = (8, 16)) -> torch.Tensor:
    return torch.rand(batch, frames, 3, *size, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def _generators(*seeds: int) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(seed) for seed in seeds]


@pytest.mark.parametrize("guidance_scale", [1.0, 2.0])
def test_a_batch_of_two_clips_equals_the_two_alone(guidance_scale: float) -> None:
    pipeline, modal, guide = _pipeline(), _video(seed=1), _video(seed=2)
    both = pipeline(modal, guide, guidance_scale=guidance_scale, generator=_generators(3, 4))
    for row in range(2):
        alone = pipeline(
            modal[row : row + 1], guide[row : row + 1], guidance_scale=guidance_scale, generator=_generators(3 + row)
        )
        torch.testing.assert_close(alone.video[0], both.video[row], atol=1e-5, rtol=0)
        torch.testing.assert_close(alone.latents[0], both.latents[row], atol=1e-5, rtol=0)


def test_each_guidance_row_gets_its_own_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[str, list[torch.Tensor]] = {}
    for conditioning in ("corrected", "released"):
        pipeline = _pipeline(conditioning)
        forward = pipeline.unet.forward

        def spy(*args: Any, mode: str = conditioning, inner: Any = forward, **kwargs: Any) -> Any:
            seen.setdefault(mode, []).append(kwargs["encoder_hidden_states"])
            return inner(*args, **kwargs)

        monkeypatch.setattr(pipeline.unet, "forward", spy)
        pipeline(_video(1), None, num_inference_steps=1, guidance_scale=1.5, noise_aug_strength=0.0)
    tokens = seen["corrected"][0]  # [2, F, D]: zero row, then the clip's own tokens in order
    assert tokens.shape == (2, 3, TOKEN_WIDTH)
    assert not tokens[0].any()
    released = seen["released"][0].reshape(6, TOKEN_WIDTH)  # zero, token 0, zero, token 1, ...
    assert not released[0::2].any()
    torch.testing.assert_close(released[1::2], tokens[1])


def test_fps_is_told_as_trained_unless_released(monkeypatch: pytest.MonkeyPatch) -> None:
    told = []
    for conditioning in ("corrected", "released"):
        pipeline = _pipeline(conditioning)
        forward = pipeline.unet.forward
        monkeypatch.setattr(
            pipeline.unet,
            "forward",
            lambda *args, inner=forward, **kwargs: told.append(kwargs["added_time_ids"]) or inner(*args, **kwargs),
        )
        pipeline(_video(1), None, num_inference_steps=1, noise_aug_strength=0.25)
    assert [ids[0].tolist() for ids in told] == [[8.0, 127.0, 0.25], [7.0, 127.0, 0.25]]


def test_seed_decides_and_defaults_come_from_the_checkpoint() -> None:
    pipeline, modal = _pipeline(), _video()
    first, again, other = (
        pipeline(modal, None, generator=torch.Generator().manual_seed(seed)).video for seed in (0, 0, 1)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    explicit = pipeline(
        modal,
        None,
        num_inference_steps=SAMPLING.num_inference_steps,
        guidance_scale=SAMPLING.guidance_scale,
        generator=torch.Generator().manual_seed(0),
    )
    assert torch.equal(explicit.video, first)


@pytest.mark.parametrize(("frames", "size"), [(1, (4, 8)), (2, (10, 6)), (5, (16, 8))])
def test_any_number_of_frames_and_any_size_the_vae_divides(frames: int, size: tuple[int, int]) -> None:
    output = _pipeline()(_video(1, frames, size=size), None, num_inference_steps=1)
    assert output.video.shape == (1, frames, 3, *size)
    assert output.video.dtype == torch.float32
    assert output.video.abs().max() <= 1
    assert output.latents.shape == (1, frames, 4, size[0] // 2, size[1] // 2)


@pytest.mark.parametrize("kind", [EDMEulerScheduler, EDMDPMSolverMultistepScheduler])
def test_other_schedulers_of_the_family(kind: Any) -> None:
    scheduler = kind(prediction_type="v_prediction", sigma_data=1.0, sigma_min=0.002, sigma_max=80.0)
    output = _pipeline(scheduler=scheduler)(_video(1), _video(1, seed=5), num_inference_steps=3)
    assert bool(output.video.isfinite().all())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"modal": torch.zeros(1, 2, 2, 8, 8)}, "modal: expected float"),
        ({"modal": torch.zeros(1, 2, 3, 8, 7)}, "multiples of 2, got 8x7"),
        ({"guide": torch.zeros(1, 3, 3, 8, 8)}, "guide: expected float"),
        ({"latents": torch.zeros(1, 2, 4, 8, 8)}, r"latents: expected \[1, 2, 4, 4, 4\]"),
        ({"num_inference_steps": 0}, "num_inference_steps: expected at least 1"),
        ({"noise_aug_strength": -0.1}, "noise_aug_strength: expected at least 0"),
        ({"decode_chunk_size": 0}, "decode_chunk_size: expected at least 1"),
        ({"decoded": slice(2, 4)}, "decoded: expected a run of some of 2 frames"),
        ({"decoded": [slice(0, 1)] * 2}, "or 1 runs, got"),
    ],
)
def test_bad_input_is_named(change: dict[str, Any], message: str) -> None:
    arguments = {"modal": torch.zeros(1, 2, 3, 8, 8), "guide": None, **change}
    with pytest.raises(InputError, match=message):
        _pipeline()(**arguments)


def test_only_what_is_wanted_is_decoded() -> None:
    options = {"num_inference_steps": 1, "decode_chunk_size": 2}
    whole = _pipeline()(_video(1, 5), None, generator=_generators(1), **options)
    part = _pipeline()(_video(1, 5), None, generator=_generators(1), **options, decoded=slice(2, 4))
    assert torch.equal(part.latents, whole.latents)
    assert torch.equal(part.video[:, 2:4], whole.video[:, 2:4])
    assert not part.video[:, [0, 1, 4]].any()


def test_each_clip_has_its_own_run_of_decoded_frames() -> None:
    options = {"num_inference_steps": 1, "decode_chunk_size": 2}
    runs = [slice(2, 4), slice(0, 3)]
    both = _pipeline()(_video(2, 5), None, generator=_generators(1, 2), **options, decoded=runs)
    for row, run in enumerate(runs):
        modal = _video(2, 5)[row : row + 1]
        alone = _pipeline()(modal, None, generator=_generators(1 + row), **options, decoded=run)
        assert torch.equal(both.video[row], alone.video[0])


def test_unknown_conditioning_is_refused() -> None:
    with pytest.raises(InputError, match="'corrected' or 'released'"):
        _pipeline("both")


def _rows_seen(pipeline: ConditionedVideoPipeline, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Rows of each call of the network, filled in as it is called."""
    rows: list[int] = []
    forward = pipeline.unet.forward
    monkeypatch.setattr(
        pipeline.unet,
        "forward",
        lambda sample, *args, **kwargs: rows.append(len(sample)) or forward(sample, *args, **kwargs),
    )
    return rows


@pytest.mark.parametrize("conditioning", ["corrected", "released"])
def test_guidance_outside_its_interval_costs_nothing(conditioning: str, monkeypatch: pytest.MonkeyPatch) -> None:
    pipeline, modal = _pipeline(conditioning), _video(1)
    rows = _rows_seen(pipeline, monkeypatch)

    def run(scale: float, interval: tuple[float, float] | None) -> torch.Tensor:
        sampling = replace(SAMPLING, num_inference_steps=4, guidance_scale=scale, guidance_interval=interval)
        rows.clear()
        return pipeline(modal, None, sampling=sampling, generator=torch.Generator().manual_seed(0)).latents

    plain, guided = run(1.0, None), run(2.0, None)
    assert torch.equal(run(2.0, (0.0, 1000.0)), guided)
    assert rows == [2, 2, 2, 2]
    middle = run(2.0, (0.1, 100.0))  # of 700, 60, 2, 0.002
    assert rows == [1, 2, 2, 1]
    assert not torch.equal(middle, plain)
    assert not torch.equal(middle, guided)
    assert torch.equal(run(2.0, (1000.0, 2000.0)), plain)
    assert rows == [1, 1, 1, 1]


@pytest.mark.parametrize(("solver", "passes"), [("euler", 3), ("heun", 5), ("dpmpp", 3)])
def test_solvers_share_the_loop(solver: Any, passes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    pipeline = _pipeline()
    rows = _rows_seen(pipeline, monkeypatch)
    sampling = replace(SAMPLING, num_inference_steps=3, solver=solver)
    output = pipeline(_video(1), None, sampling=sampling, generator=torch.Generator().manual_seed(0))
    assert bool(output.latents.isfinite().all())
    assert len(rows) == passes == sampling.network_passes
    own = pipeline(_video(1), None, num_inference_steps=3, generator=torch.Generator().manual_seed(0))
    assert torch.equal(own.latents, output.latents) == (solver == "euler")  # the checkpoint's own is Euler's


def test_a_call_may_bring_its_own_settings() -> None:
    pipeline, modal = _pipeline(), _video(1)
    sampling = replace(SAMPLING, num_inference_steps=1, noise_aug_strength=0.3, decode_chunk_size=1)
    brought, named, own = (
        pipeline(modal, None, generator=torch.Generator().manual_seed(0), **arguments).video
        for arguments in (
            {"sampling": sampling},
            {"num_inference_steps": 1, "noise_aug_strength": 0.3, "decode_chunk_size": 1},
            {},
        )
    )
    assert torch.equal(brought, named)
    assert not torch.equal(brought, own)
