"""From the completer's call to the network: few functions, and each traceback tells its stage; no frame, no work."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from diffusers import UNetSpatioTemporalConditionModel

import amodal_diffusion
from amodal_diffusion.pipelines.amodal_segmentation import AmodalSegmentationPipeline
from amodal_diffusion.pipelines.completer import AmodalCompleter, ObjectStream
from amodal_diffusion.pipelines.content_completion import ContentCompletionPipeline
from tests.factories import moving_square, tiny_components

PACKAGE = Path(amodal_diffusion.__file__).parent
MOST = 10  # with `main`
STAGE_PAGES = {"amodal_segmentation", "content_completion"}


@pytest.fixture(scope="module")
def completer() -> AmodalCompleter:
    segmentation = AmodalSegmentationPipeline.from_components(tiny_components("amodal_segmentation"))
    content = ContentCompletionPipeline.from_components(tiny_components("content_completion"))
    for pipeline in (segmentation, content):
        pipeline.set_progress_bar_config(disable=True)
    return AmodalCompleter(segmentation, content)


@pytest.fixture
def stacks(monkeypatch: pytest.MonkeyPatch) -> set[tuple[str, ...]]:
    """Functions of the package on the stack at calls of the network, as ``module.function``, outermost first."""
    found: set[tuple[str, ...]] = set()
    forward: Callable[..., Any] = UNetSpatioTemporalConditionModel.forward

    def noted(*arguments: Any, **options: Any) -> Any:
        own = [frame for frame in traceback.extract_stack() if Path(frame.filename).is_relative_to(PACKAGE)]
        found.add(tuple(f"{Path(frame.filename).stem}.{frame.name}" for frame in own))
        return forward(*arguments, **options)

    monkeypatch.setattr(UNetSpatioTemporalConditionModel, "forward", noted)
    return found


@pytest.mark.parametrize(
    "changes",
    [{}, {"preset": "paper", "num_inference_steps": 1}, {"tta": 4, "color_propagation": True, "skip_unoccluded": True}],
    ids=["default", "paper", "beyond the paper"],
)
def test_at_most_ten_functions_and_one_stage(
    completer: AmodalCompleter, stacks: set[tuple[str, ...]], changes: dict[str, Any]
) -> None:
    clip = moving_square(4)
    clip.modal_mask[2:, :, 10:13] = False  # hidden, so that colors are painted
    completer(clip, completer.config(**{"num_inference_steps": 1, "height": 8, "width": 16, **changes}))
    seen = set()
    for stack in stacks:
        assert stack[0] == "completer.__call__"
        assert len(stack) + 1 <= MOST, stack
        stages = {name.partition(".")[0] for name in stack} & STAGE_PAGES
        assert len(stages) == 1, stack
        seen |= stages
    assert seen == STAGE_PAGES


def test_a_stream_without_frames_needs_no_network(completer: AmodalCompleter, stacks: set[tuple[str, ...]]) -> None:
    assert list(completer.stream([])) == []
    assert list(completer.stream_objects([], [ObjectStream(), ObjectStream(done=3)])) == []
    assert stacks == set()
