"""The way from the command to the network is short, and tells which stage it is in."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from diffusers import UNetSpatioTemporalConditionModel

import amodal_diffusion
from amodal_diffusion.cli import main
from tests.commands.folders import discs_behind_a_bar

PACKAGE = Path(amodal_diffusion.__file__).parent
MOST = 10
PAGES = {"amodal_segmentation.py", "content_completion.py"}  # of stage 1 and of stage 2


@pytest.fixture
def stacks(monkeypatch: pytest.MonkeyPatch) -> list[list[traceback.FrameSummary]]:
    """Frames of the package at each call of the network, from `main` to the call."""
    found: list[list[traceback.FrameSummary]] = []
    forward: Callable[..., Any] = UNetSpatioTemporalConditionModel.forward

    def noted(*arguments: Any, **options: Any) -> Any:
        own = [frame for frame in traceback.extract_stack() if Path(frame.filename).is_relative_to(PACKAGE)]
        found.append(own[[frame.name for frame in own].index("main") :])
        return forward(*arguments, **options)

    monkeypatch.setattr(UNetSpatioTemporalConditionModel, "forward", noted)
    return found


def test_at_most_ten_functions_and_one_stage(
    tmp_path: Path, model: Path, stacks: list[list[traceback.FrameSummary]]
) -> None:
    inputs = discs_behind_a_bar(tmp_path, model, 5, {"cup": 0})
    assert main(["complete", *inputs, "--out", str(tmp_path / "out"), "-q"]) == 0
    pages = [{Path(frame.filename).name for frame in stack} & PAGES for stack in stacks]
    assert [len(page) for page in pages] == [1] * len(stacks)
    assert set().union(*pages) == PAGES
    ways = {tuple(f"{Path(frame.filename).stem}.{frame.name}" for frame in stack) for stack in stacks}
    assert [way for way in ways if len(way) > MOST] == []
