"""The memory plan beside what torch's allocator hands out: within 10 % at tiny size, by all steps of a stage."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch.profiler import ProfilerActivity, profile

from amodal_diffusion.basics import STAGES, Stage
from amodal_diffusion.models.memory import bytes_of, layer_bytes
from amodal_diffusion.models.stages import empty_stages, load_stages
from amodal_diffusion.pipelines.amodal_segmentation import AmodalSegmentationPipeline
from amodal_diffusion.pipelines.content_completion import ContentCompletionPipeline
from amodal_diffusion.pipelines.sampling_memory import Work, peak_memory, stage_memory
from tests.factories import SAMPLING, tiny_completer_folder

CLASSES = {"amodal_segmentation": AmodalSegmentationPipeline, "content_completion": ContentCompletionPipeline}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[Stage, Path]:
    return dict.fromkeys(STAGES, tiny_completer_folder(tmp_path_factory.mktemp("model")))


def allocated(work: Callable[[], object]) -> int:
    """Peak bytes of torch's CPU allocator during work, which does not depend on what else the machine does."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as record:
        work()
    events = [event for event in record.profiler.kineto_results.events() if event.name() == "[memory]"]
    now = most = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        now += event.nbytes()
        most = max(most, now)
    return most


@pytest.mark.parametrize(
    ("stage", "clips", "guidance", "chunk", "largest"),
    [
        ("amodal_segmentation", 2, 1.5, 4, "denoise"),
        ("content_completion", 1, 1.0, 1, "denoise"),
        ("content_completion", 1, 1.0, 4, "decode"),
    ],
)
def test_the_plan_is_within_a_tenth_of_what_is_allocated(
    stage: Stage, clips: int, guidance: float, chunk: int, largest: str, folders: dict[Stage, Path]
) -> None:
    sampling = SAMPLING.changed({"guidance_scale": guidance, "decode_chunk_size": chunk, "num_inference_steps": 1})
    pipeline = CLASSES[stage].from_components(load_stages({stage: folders[stage]})[stage])
    pipeline.set_progress_bar_config(disable=True)
    shape = (clips, sampling.num_frames, 1, sampling.height, sampling.width)
    modal, guide = torch.zeros(shape).expand(-1, -1, 1 if stage == STAGES[0] else 3, -1, -1), torch.zeros(shape)
    generators = [torch.Generator() for _ in range(clips)]
    found = allocated(lambda: pipeline(modal, guide, sampling=sampling, generator=generators))
    networks = empty_stages({stage: folders[stage]}, dtype=torch.float32)[stage]
    planned = stage_memory(networks, Work.of(sampling, objects=clips, on_cpu=True))
    steps = {name: getattr(planned, name) for name in ("encode", "tokens", "denoise", "decode")}
    assert max(steps, key=lambda name: steps[name]) == largest
    assert max(steps.values()) == pytest.approx(found, rel=0.1)


@pytest.mark.slow
def test_peaks_by_where_weights_wait(folders: dict[Stage, Path]) -> None:
    stages = list(empty_stages(folders, dtype=torch.float32).values())
    works = [Work.of(SAMPLING)] * 2
    memory = [stage_memory(stage, work) for stage, work in zip(stages, works, strict=True)]
    steps = [max(found.encode, found.tokens, found.denoise, found.decode) for found in memory]
    unet, vae, encoder = map(bytes_of, stages[0].networks)
    weights = 2 * unet + vae + encoder  # what is shared counts once
    assert peak_memory(stages, works, "none", others=7) == weights + max(steps) + 7
    by_model = (max(unet + found.denoise, vae + max(found.encode, found.decode)) for found in memory)
    assert peak_memory(stages, works, "model") == max(by_model)
    assert peak_memory(stages, works, "sequential") >= max(steps)
    assert peak_memory(stages, works, "sequential") <= max(steps) + max(map(layer_bytes, stages[0].networks))
