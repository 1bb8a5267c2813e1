"""`complete --dry-run`, and what `complete` and `batch` say when a device has too little memory."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from amodal_diffusion.cli import main
from amodal_diffusion.models import downloads, hub
from amodal_diffusion.pipelines.denoising import ConditionedVideoPipeline
from tests.commands.folders import contents, discs_behind_a_bar

FRAMES = 7  # two windows of 4 that share one


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory, model: Path) -> list[str]:
    """Arguments for two discs that pass behind a bar."""
    return [*discs_behind_a_bar(tmp_path_factory.mktemp("clip"), model, FRAMES, {"cup": -2, "jug": 2}), "-q"]


def complete(inputs: list[str], out: Path, *options: str) -> int:
    return main(["complete", *inputs, "--out", str(out), *options])


def option(inputs: list[str], name: str) -> str:
    return next(value for value in inputs if value.startswith(f"--{name}=")).partition("=")[2]


def run_out_of_memory(monkeypatch: pytest.MonkeyPatch, *, after: int) -> None:
    """Let the UNets run out of memory after so many calls."""
    denoise, calls = ConditionedVideoPipeline._denoise, []

    def limited(pipeline: ConditionedVideoPipeline, *arguments: object) -> object:
        calls.append(pipeline.stage)
        if len(calls) > after:
            raise torch.OutOfMemoryError("tried to allocate 9 GiB")
        return denoise(pipeline, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(ConditionedVideoPipeline, "_denoise", limited)


@pytest.mark.parametrize("after", [1, 3], ids=["stage 1", "stage 2"])
def test_too_little_memory_is_one_line_and_the_command_goes_on(
    after: int, tmp_path: Path, inputs: list[str], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    with monkeypatch.context() as patch:
        run_out_of_memory(patch, after=after)
        assert complete(inputs, out) == 2
    lines = capfd.readouterr().err.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("error: out of memory on the device; --offload model, --decode-chunk-size 2, a smaller")
    assert not out.exists()
    assert complete(inputs, out) == 0
    assert complete(inputs, tmp_path / "whole") == 0
    assert contents(out) == contents(tmp_path / "whole")


def test_finished_objects_stay_finished_with_fewer_at_once(
    tmp_path: Path, inputs: list[str], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    with monkeypatch.context() as patch:
        run_out_of_memory(patch, after=4)  # two windows of two stages: the first object
        assert complete(inputs, out, "--stages", "all") == 2
    work = tmp_path / "out.partial"
    finished = {path: path.stat().st_mtime_ns for path in (work / "objects/cup").rglob("*.png")}
    assert len(finished) == 2 * FRAMES
    assert complete(inputs, out, "--stages", "all", "--object-batch", "2") == 0
    assert {out / path.relative_to(work): time for path, time in finished.items()} == {
        path: path.stat().st_mtime_ns for path in (out / "objects/cup").rglob("*.png")
    }
    capfd.readouterr()


def test_a_batch_counts_too_little_memory_as_a_failed_clip(
    tmp_path: Path, inputs: list[str], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    clip, masks, model = inputs[0], option(inputs, "masks"), option(inputs, "model")
    (tmp_path / "list.jsonl").write_text(json.dumps({"clip": clip, "masks": masks, "name": "one"}) + "\n")
    run_out_of_memory(monkeypatch, after=0)
    command = ["batch", "--input", str(tmp_path / "list.jsonl"), "--model", model, "--device", "cpu"]
    assert main([*command, "--out", str(tmp_path / "out"), "-q"]) == 1
    (failure,) = json.loads((tmp_path / "out/failures.json").read_text())
    assert failure["error"].startswith("out of memory on the device; --offload model")
    assert failure["trace"] is None
    assert "Traceback" not in capfd.readouterr().err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--offload", "model"], "--offload: model moves weights to a GPU when it needs them"),
        (["--cuda-graphs"], "--cuda-graphs: needs a CUDA device, and this runs on cpu"),
        (["--vae", "nothing"], "vae nothing: expected tiny, a folder or a hub id"),
    ],
)
def test_a_dry_run_refuses_what_the_command_refuses(
    options: list[str], message: str, tmp_path: Path, inputs: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert complete(inputs, tmp_path / "out", "--dry-run", *options) == 2
    assert message in capsys.readouterr().err


@pytest.mark.slow
def test_a_dry_run_prints_the_plan_and_touches_nothing(
    tmp_path: Path, inputs: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("loaded or downloaded")

    monkeypatch.setattr(hub, "load_stage", refuse)
    monkeypatch.setattr(downloads, "_download", refuse)
    on_a_gpu = [argument for argument in inputs if not argument.startswith("--device")]
    assert complete(on_a_gpu, tmp_path / "out", "--dry-run") == 0
    printed = capsys.readouterr().out
    assert "windows of 4 frames of 16x32, objects at once: 1, rows of the UNet: 1" in printed
    for line in ("  VAE of both stages", "  UNet of content_completion", "  --offload sequential", "   8 GB "):
        assert line in printed
    assert printed.count("as it is") == 4
    assert complete(inputs, tmp_path / "out", "--dry-run") == 0
    assert "on a CPU in float32" in capsys.readouterr().out
    assert not list(tmp_path.iterdir())
    assert complete(inputs, tmp_path / "out", "--dry-run", "--height", "17") == 2
    assert "height: expected a multiple of 2, got 17" in capsys.readouterr().err
