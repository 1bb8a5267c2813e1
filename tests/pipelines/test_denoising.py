"""The denoising loop and the sampling of windows: shapes, randomness, batches, both conditioning modes, bad input."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
import torch
from diffusers import EDMDPMSolverMultistepScheduler, EDMEulerScheduler

from amodal_diffusion.basics import InputError
from amodal_diffusion.config import Conditioning, SamplingConfig, Scheduler
from amodal_diffusion.models.hub import StageComponents
from amodal_diffusion.models.latents import encode_video
from amodal_diffusion.pipelines.amodal_segmentation import AmodalSegmentationPipeline
from amodal_diffusion.pipelines.content_completion import ContentCompletionPipeline
from amodal_diffusion.pipelines.denoising import ConditionedVideoPipeline, WindowRequest, sample_windows
from tests.factories import SAMPLING, TOKEN_WIDTH, tiny_components

CONDITIONINGS: tuple[Conditioning, ...] = ("corrected", "released")


@pytest.fixture(scope="module")
def parts() -> StageComponents:
    return tiny_components()


@pytest.fixture(scope="module")
def pipeline(parts: StageComponents) -> ConditionedVideoPipeline:
    return _pipeline(parts)


def _pipeline(parts: StageComponents, scheduler: Any = None) -> ConditionedVideoPipeline:
    made = ConditionedVideoPipeline.from_components(replace(parts, scheduler=scheduler or parts.scheduler))
    made.set_progress_bar_config(disable=True)
    return made


@contextmanager
def _calls(pipeline: ConditionedVideoPipeline) -> Iterator[list[tuple[tuple[Any, ...], dict[str, Any]]]]:
    """Arguments of each call of the network, filled in as it is called."""
    calls: list[tuple[tuple[Any, ...], dict[str, Any]]] = []
    hook = pipeline.unet.register_forward_pre_hook(
        lambda _, args, kwargs: calls.append((args, kwargs)), with_kwargs=True
    )
    try:
        yield calls
    finally:
        hook.remove()


def _video(batch: int = 2, frames: int = 3, *, seed: int = 0, size: tuple[int, int] = (8, 16)) -> torch.Tensor:
    return torch.rand(batch, frames, 3, *size, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def _generators(*seeds: int) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(seed) for seed in seeds]


@pytest.mark.parametrize("guidance_scale", [1.0, 2.0])
@pytest.mark.parametrize("conditioning", CONDITIONINGS)
def test_a_batch_of_two_clips_equals_the_two_alone_to_the_bit(
    pipeline: ConditionedVideoPipeline, guidance_scale: float, conditioning: Conditioning
) -> None:
    sampling = replace(SAMPLING, guidance_scale=guidance_scale, conditioning=conditioning)
    modal, guide = _video(seed=1), _video(seed=2)
    both = pipeline(modal, guide, sampling=sampling, generator=_generators(3, 4))
    for row in range(2):
        one = slice(row, row + 1)
        alone = pipeline(modal[one], guide[one], sampling=sampling, generator=_generators(3 + row))
        assert torch.equal(alone.video[0], both.video[row])
        assert torch.equal(alone.latents[0], both.latents[row])


def test_each_guidance_row_gets_its_own_tokens(pipeline: ConditionedVideoPipeline) -> None:
    seen: dict[str, torch.Tensor] = {}
    for conditioning in CONDITIONINGS:
        sampling = replace(
            SAMPLING, num_inference_steps=1, guidance_scale=1.5, noise_aug_strength=0.0, conditioning=conditioning
        )
        with _calls(pipeline) as calls:
            pipeline(_video(1), None, sampling=sampling)
        seen[conditioning] = calls[0][1]["encoder_hidden_states"]
    tokens = seen["corrected"]  # [2, F, D]: zero row, then the clip's own tokens in order
    assert tokens.shape == (2, 3, TOKEN_WIDTH)
    assert not tokens[0].any()
    released = seen["released"].reshape(6, TOKEN_WIDTH)  # zero, token 0, zero, token 1, ...
    assert not released[0::2].any()
    torch.testing.assert_close(released[1::2], tokens[1])


def test_fps_is_told_as_trained_unless_released(pipeline: ConditionedVideoPipeline) -> None:
    told = []
    for conditioning in CONDITIONINGS:
        sampling = replace(SAMPLING, num_inference_steps=1, noise_aug_strength=0.25, conditioning=conditioning)
        with _calls(pipeline) as calls:
            pipeline(_video(1), None, sampling=sampling)
        told.append(calls[0][1]["added_time_ids"][0].tolist())
    assert told == [[8.0, 127.0, 0.25], [7.0, 127.0, 0.25]]


def test_seed_decides_and_defaults_come_from_the_checkpoint(pipeline: ConditionedVideoPipeline) -> None:
    modal = _video()
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
def test_any_number_of_frames_and_any_size_the_vae_divides(
    pipeline: ConditionedVideoPipeline, frames: int, size: tuple[int, int]
) -> None:
    output = pipeline(_video(1, frames, size=size), None, num_inference_steps=1)
    assert output.video.shape == (1, frames, 3, *size)
    assert output.video.dtype == torch.float32
    assert output.video.abs().max() <= 1
    assert output.latents.shape == (1, frames, 4, size[0] // 2, size[1] // 2)


@pytest.mark.parametrize("kind", [EDMEulerScheduler, EDMDPMSolverMultistepScheduler])
def test_other_schedulers_of_the_family(parts: StageComponents, kind: Any) -> None:
    scheduler = kind(prediction_type="v_prediction", sigma_data=1.0, sigma_min=0.002, sigma_max=80.0)
    output = _pipeline(parts, scheduler)(_video(1), _video(1, seed=5), num_inference_steps=3)
    assert bool(output.video.isfinite().all())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"modal": torch.zeros(1, 2, 2, 8, 8)}, "modal: expected float"),
        ({"modal": torch.zeros(1, 2, 3, 8, 7)}, "multiples of 2, got 8x7"),
        ({"guide": torch.zeros(1, 3, 3, 8, 8)}, "guide: expected float"),
        ({"latents": torch.zeros(1, 2, 4, 8, 8)}, r"latents: expected \[1, 2, 4, 4, 4\]"),
        ({"num_inference_steps": 0}, "num_inference_steps: expected at least 1"),
        ({"noise_aug_strength": -0.1}, "noise_aug_strength: expected a number, at least 0"),
        ({"decode_chunk_size": 0}, "decode_chunk_size: expected at least 1"),
        ({"decoded": slice(2, 4)}, "decoded: expected a run of some of 2 frames"),
        ({"decoded": [slice(0, 1)] * 2}, "or 1 runs, got"),
    ],
)
def test_bad_input_is_named(pipeline: ConditionedVideoPipeline, change: dict[str, Any], message: str) -> None:
    arguments = {"modal": torch.zeros(1, 2, 3, 8, 8), "guide": None, **change}
    with pytest.raises(InputError, match=message):
        pipeline(**arguments)


def test_only_frames_that_are_asked_for_are_decoded(pipeline: ConditionedVideoPipeline) -> None:
    options = {"num_inference_steps": 1, "decode_chunk_size": 2}
    whole = pipeline(_video(1, 5), None, generator=_generators(1), **options)
    part = pipeline(_video(1, 5), None, generator=_generators(1), **options, decoded=slice(2, 4))
    assert torch.equal(part.latents, whole.latents)
    assert torch.equal(part.video[:, 2:4], whole.video[:, 2:4])
    assert not part.video[:, [0, 1, 4]].any()


def test_each_clip_has_its_own_run_of_decoded_frames(pipeline: ConditionedVideoPipeline) -> None:
    options = {"num_inference_steps": 1, "decode_chunk_size": 2}
    runs = [slice(2, 4), slice(0, 3)]
    both = pipeline(_video(2, 5), None, generator=_generators(1, 2), **options, decoded=runs)
    for row, run in enumerate(runs):
        modal = _video(2, 5)[row : row + 1]
        alone = pipeline(modal, None, generator=_generators(1 + row), **options, decoded=run)
        assert torch.equal(both.video[row], alone.video[0])


@pytest.mark.parametrize("conditioning", CONDITIONINGS)
def test_guidance_outside_its_interval_costs_nothing(
    pipeline: ConditionedVideoPipeline, conditioning: Conditioning
) -> None:
    modal, rows = _video(1), list[int]()

    def run(scale: float, interval: tuple[float, float] | None) -> torch.Tensor:
        sampling = replace(
            SAMPLING, num_inference_steps=4, guidance_scale=scale, guidance_interval=interval, conditioning=conditioning
        )
        with _calls(pipeline) as calls:
            latents = pipeline(modal, None, sampling=sampling, generator=torch.Generator().manual_seed(0)).latents
        rows[:] = [len(args[0]) for args, _ in calls]
        return latents

    plain, guided = run(1.0, None), run(2.0, None)
    assert torch.equal(run(2.0, (0.0, 1000.0)), guided)
    assert rows == [2, 2, 2, 2]
    middle = run(2.0, (0.1, 100.0))  # of 700, 60, 2, 0.002
    assert rows == [1, 2, 2, 1]
    assert not torch.equal(middle, plain)
    assert not torch.equal(middle, guided)
    assert torch.equal(run(2.0, (1000.0, 2000.0)), plain)
    assert rows == [1, 1, 1, 1]


@pytest.mark.parametrize(("scheduler", "passes"), [("euler", 3), ("heun", 5), ("dpmpp", 3)])
def test_schedulers_share_the_loop(pipeline: ConditionedVideoPipeline, scheduler: Scheduler, passes: int) -> None:
    sampling = replace(SAMPLING, num_inference_steps=3, scheduler=scheduler)
    with _calls(pipeline) as calls:
        output = pipeline(_video(1), None, sampling=sampling, generator=torch.Generator().manual_seed(0))
    assert bool(output.latents.isfinite().all())
    assert len(calls) == passes == sampling.network_passes
    own = pipeline(_video(1), None, num_inference_steps=3, generator=torch.Generator().manual_seed(0))
    assert torch.equal(own.latents, output.latents) == (scheduler == "euler")  # the checkpoint's own is Euler's


def test_a_call_may_bring_its_own_settings(pipeline: ConditionedVideoPipeline) -> None:
    modal = _video(1)
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


WINDOWED = replace(SAMPLING, guidance_scale=1.5, noise_aug_strength=0.1, decode_chunk_size=3)


def _window(
    seed: int, *, start: int = 0, frames: int = 4, guide: bool = True, decoded: tuple[int, int] = (0, 4)
) -> WindowRequest:
    modal, depth = (_video(1, frames, seed=seed + more)[0, :, :1] for more in (0, 100))
    return WindowRequest(start, modal, depth if guide else None, decoded)


DIFFERENT = [
    _window(0),
    _window(1, start=3),
    _window(2, decoded=(1, 3)),
    _window(3, frames=3, decoded=(0, 3)),
    _window(4, guide=False),
    _window(5, start=9, guide=False, decoded=(2, 4)),
]


@pytest.mark.parametrize(("samples", "flip"), [(2, ()), (1, (0, -1))])
def test_rows_of_one_call_are_windows_alone_to_the_bit(
    segmentation: AmodalSegmentationPipeline, samples: int, flip: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    rows: list[int] = []
    call = AmodalSegmentationPipeline.__call__

    def counted(self: AmodalSegmentationPipeline, modal: torch.Tensor, *args: Any, **options: Any) -> Any:
        rows.append(len(modal))
        return call(self, modal, *args, **options)

    monkeypatch.setattr(AmodalSegmentationPipeline, "__call__", counted)
    sampling = replace(WINDOWED, samples=samples)
    together = sample_windows(segmentation, DIFFERENT, sampling, seed=5, flip=flip)
    assert rows == [3 * samples, samples, 2 * samples]  # windows of one shape, shorter ones, those without guide
    for request, video in zip(DIFFERENT, together, strict=True):
        (alone,) = sample_windows(segmentation, [request], sampling, seed=5, flip=flip)
        assert torch.equal(video, alone)
        frames, _, height, width = request.modal.shape
        assert video.shape == (samples, frames, 3, height, width)
        first, last = request.decoded
        assert all(video[:, frame].any() == (first <= frame < last) for frame in range(frames))
    assert sample_windows(segmentation, [], sampling, seed=5, flip=flip) == []


def test_objects_that_share_a_guide_have_it_encoded_once(
    segmentation: AmodalSegmentationPipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    shared = _window(0).guide
    requests = [
        replace(_window(0), guide=shared),
        replace(_window(1), guide=shared),
        replace(_window(2, start=3), guide=shared),  # other noise
        _window(3),  # another guide
        replace(_window(4), guide=None if shared is None else shared.clone()),
    ]
    sampling = replace(WINDOWED, samples=2)
    alone = [sample_windows(segmentation, [request], sampling, seed=5)[0] for request in requests]
    clips: list[int] = []

    def counted(vae: Any, video: torch.Tensor, **options: Any) -> torch.Tensor:
        clips.append(len(video))
        return encode_video(vae, video, **options)

    monkeypatch.setattr("amodal_diffusion.models.conditioning.encode_video", counted)
    together = sample_windows(segmentation, requests, sampling, seed=5)
    assert clips == [5 * 2, *[1] * (3 * 2)]  # the modal masks, then three guides, in two samples
    assert all(torch.equal(one, other) for one, other in zip(together, alone, strict=True))


def test_the_first_sample_is_the_same_however_many_there_are(segmentation: AmodalSegmentationPipeline) -> None:
    one, three = (
        sample_windows(segmentation, DIFFERENT[:1], replace(WINDOWED, samples=count), seed=0)[0] for count in (1, 3)
    )
    assert torch.equal(three[0], one[0])
    assert not torch.equal(three[1], three[2])


def _noise(
    pipeline: ConditionedVideoPipeline, request: WindowRequest, monkeypatch: pytest.MonkeyPatch, **options: Any
) -> torch.Tensor:
    """Initial latents that the pipeline is given for a window, ``[samples, F, 4, h, w]``."""
    given: list[torch.Tensor] = []
    call = type(pipeline).__call__

    def spy(self: Any, *args: Any, **keywords: Any) -> Any:
        given.append(keywords["latents"])
        return call(self, *args, **keywords)

    sampling: SamplingConfig = options.pop("sampling", WINDOWED)
    with monkeypatch.context() as patch:
        patch.setattr(type(pipeline), "__call__", spy)
        sample_windows(pipeline, [request], sampling, **options)
    return given[0]


def test_the_noise_of_a_frame_depends_on_stage_seed_and_number_alone(
    segmentation: AmodalSegmentationPipeline, content: ContentCompletionPipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = _noise(segmentation, _window(0, start=0), monkeypatch, seed=0)[0]
    second = _noise(segmentation, _window(1, start=3), monkeypatch, seed=0)[0]
    assert torch.equal(first[3], second[0])
    assert not torch.equal(first[0], second[0])
    backwards = _noise(segmentation, _window(0, start=0), monkeypatch, seed=0, flip=(0,))[0]
    assert torch.equal(backwards, first.flip(0))
    samples = _noise(segmentation, _window(0), monkeypatch, seed=0, sampling=replace(WINDOWED, samples=2))
    assert torch.equal(samples[0], first)
    assert not torch.equal(samples[1], first)
    assert not torch.equal(_noise(segmentation, _window(0), monkeypatch, seed=1)[0], first)
    assert not torch.equal(_noise(content, _window(0), monkeypatch, seed=0)[0], first)
