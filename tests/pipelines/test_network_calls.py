"""Windows that share a call get what they get alone; those that do not fit each other do not share one."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch

from amodal_diffusion.pipelines import network_calls
from amodal_diffusion.pipelines.amodal_segmentation import AmodalSegmentationPipeline
from amodal_diffusion.pipelines.network_calls import WindowCall, run_calls
from tests.factories import SAMPLING, tiny_components


@pytest.fixture(scope="module")
def pipeline() -> AmodalSegmentationPipeline:
    made = AmodalSegmentationPipeline.from_components(tiny_components())
    made.set_progress_bar_config(disable=True)
    return made


def window(
    pipeline: AmodalSegmentationPipeline, seed: int, *, answers: int = 1, frames: int = 4, guide: bool = True,
    decoded: slice = slice(0, 4), **changes: Any,
) -> WindowCall:  # fmt: skip
    """What a stream asks about a window; the same seed, the same values and generators."""
    source = torch.Generator().manual_seed(seed)
    shape = (answers, frames, 1, 8, 16)
    return WindowCall(
        pipeline,
        torch.rand(shape, generator=source) * 2 - 1,
        torch.rand(shape, generator=source) * 2 - 1 if guide else None,
        sampling=replace(SAMPLING, guidance_scale=1.5, noise_aug_strength=0.1, decode_chunk_size=3, **changes),
        generators=[torch.Generator().manual_seed(10 * seed + answer) for answer in range(answers)],
        latents=torch.randn((answers, frames, 4, 4, 8), generator=source),
        decoded=decoded,
    )


def test_rows_of_one_call_are_windows_alone_to_the_bit(
    pipeline: AmodalSegmentationPipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows: list[int] = []
    call = AmodalSegmentationPipeline.__call__

    def counted(self: AmodalSegmentationPipeline, modal: torch.Tensor, *args: Any, **options: Any) -> Any:
        rows.append(len(modal))
        return call(self, modal, *args, **options)

    monkeypatch.setattr(AmodalSegmentationPipeline, "__call__", counted)
    different: list[dict[str, Any]] = [
        {},
        {"answers": 2},
        {"decoded": slice(1, 3)},
        {"frames": 3, "decoded": slice(0, 3)},
        {"guide": False},
        {"num_inference_steps": 1},
        {"guide": False, "decoded": slice(2, 4)},
    ]
    together = run_calls([window(pipeline, seed, **how) for seed, how in enumerate(different)])
    assert rows == [4, 1, 2, 1]
    for seed, (how, (video, seconds)) in enumerate(zip(different, together, strict=True)):
        asked = window(pipeline, seed, **how)
        assert seconds > 0
        assert torch.equal(video, run_calls([asked])[0].video)
        assert video.shape == (*asked.latents.shape[:2], 3, 8, 16)
        assert video[:, asked.decoded].any()
        unwanted = torch.ones(video.shape[1], dtype=torch.bool)
        unwanted[asked.decoded] = False
        assert not video[:, unwanted].any()


def test_a_window_takes_its_share_of_its_own_call_alone(
    pipeline: AmodalSegmentationPipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = network_calls._run

    def slow_without_guide(calls: Sequence[WindowCall]) -> torch.Tensor:
        video = run(calls)
        if calls[0].guide is None:
            time.sleep(2.0)
        return video

    monkeypatch.setattr(network_calls, "_run", slow_without_guide)
    asked: list[dict[str, Any]] = [{"guide": False}, {}, {"guide": False, "answers": 3}]
    seconds = [entry.seconds for entry in run_calls([window(pipeline, seed, **how) for seed, how in enumerate(asked)])]
    assert seconds[2] == pytest.approx(3 * seconds[0])
    assert seconds[0] + seconds[2] > 2.0
    assert seconds[1] < 2.0
