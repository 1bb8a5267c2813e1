"""`amodal-diffusion evaluate`: what it prints and writes, what it refuses, and how it goes on after a kill."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from amodal_diffusion.cli import main
from amodal_diffusion.evaluation import runner
from amodal_diffusion.evaluation.benchmarks import scenes
from amodal_diffusion.evaluation.benchmarks.base import Target
from amodal_diffusion.evaluation.results import ResultStore, TargetResult
from amodal_diffusion.evaluation.runner import Scorer
from tests.factories import tiny_completer_folder, tiny_depth_folder
from tests.tracks import write_tracks
from tests.training.launching import LAUNCH, started

SCENES = ("--split", "validation", "--device", "cpu", "-q")
ONE_STEP = ("--steps", "1")
SAME = ("results.json", "summary.json", "summary.md")
"""Files that are the same bytes in every run of a command."""


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_completer_folder(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def annotations(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tracks(tmp_path_factory.mktemp("tracks"), 2)


@pytest.fixture
def small_scenes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Scenes of one window of the model, at its smallest size."""
    for name, value in (("FRAMES", 4), ("HEIGHT", 32), ("WIDTH", 64)):
        monkeypatch.setattr(scenes, name, value)


@pytest.fixture(autouse=True)
def no_plots(monkeypatch: pytest.MonkeyPatch) -> None:
    """Drawing takes longer than scoring; tests/evaluation/test_report.py has the plots."""
    monkeypatch.setattr(runner, "draw_plots", lambda *_: {})


def evaluate(out: Path, *arguments: str, status: int = 0) -> dict[str, Any]:
    assert main(["evaluate", *arguments, "--out", str(out)]) == status
    return summary_of(out) if status == 0 else {}


def summary_of(out: Path) -> dict[str, Any]:
    summary: dict[str, Any] = json.loads((out / "summary.json").read_text(encoding="utf-8"))
    return summary


def assert_same(one: Path, other: Path) -> None:
    for name in SAME:
        assert (one / name).read_bytes() == (other / name).read_bytes(), name


@pytest.mark.usefixtures("small_scenes")
def test_baselines_and_a_model_in_one_run(checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    methods = f"modal,hull,hull-nearer,{checkpoint},{checkpoint}@depth"
    together = ("--methods", methods, "--top-k", "2", "--stages", "all", "--limit", "1", *SCENES, *ONE_STEP)
    first = evaluate(tmp_path / "one", *together)
    printed = capsys.readouterr().out
    assert "scenes/validation: 1 track(s) with 4 frames scored, none left out" in printed
    assert "PSNR, hidden, dB" in printed
    assert len([line for line in printed.splitlines() if line.startswith(("pass", "FAIL"))]) == 6
    assert list(first["methods"]) == methods.split(",")
    assert [method["samples"] for method in first["methods"].values()] == [1, 1, 1, 2, 2]
    content = first["methods"]["hull"]["content"]
    assert content["ssim"]["tracks"] == 1
    assert content["lpips"]["mean"] is None
    stages = first["settings"]["models"][str(checkpoint)]
    assert {name: len(stage["fingerprint"]) for name, stage in stages.items()} == {
        "amodal_segmentation": 64, "content_completion": 64
    }  # fmt: skip

    alone = evaluate(tmp_path / "two", "--methods", str(checkpoint), "--limit", "1", *SCENES, *ONE_STEP)
    results = [json.loads((tmp_path / name / "results.json").read_text(encoding="utf-8")) for name in ("one", "two")]
    (sample, _), (same,) = (result["tracks"][0]["methods"][str(checkpoint)]["samples"] for result in results)
    assert sample == same  # neither other methods nor more samples change it
    assert alone["methods"][str(checkpoint)]["strict"]["miou"] is not None


def test_the_command_that_the_report_gives_repeats_it(
    annotations: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ("--benchmark", "sailvos", "--data", str(annotations), "--methods", "modal,hull", "--limit", "2", "-q")
    first = evaluate(tmp_path / "one", *arguments)
    words = first["command"].split()
    assert words[:2] == ["amodal-diffusion", "evaluate"]
    again = [*words[1:-1], str(tmp_path / "two"), "-q"]
    assert main(again) == 0
    assert_same(tmp_path / "one", tmp_path / "two")
    assert main(again) == 2  # earlier results stay ...
    assert "--overwrite" in capsys.readouterr().err
    assert main([*again, "--overwrite"]) == 0  # ... unless the user says so


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--limit", "201"], "error: limit: expected 1 to 200 clips, got 201"),
        (["--benchmark", "none"], "error: benchmark: expected one of scenes, "),
        (["--methods", "no-such-model"], "error: "),
        (["--methods", "modal", "--lpips", "weights.safetensors"], "error: lpips, video-features: are for painted"),
        (["--methods", "modal,modal"], "error: methods: expected each method once, got modal"),
        (["--methods", "modal", "--export", "gif"], "error: export: expected coco, youtube-vis, davis, got gif"),
    ],
)
def test_a_mistake_is_one_line(
    arguments: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["evaluate", "--out", str(tmp_path / "out"), "-q", *arguments]) == 2
    error = capsys.readouterr().err
    assert error.startswith(message)
    assert len(error.splitlines()) == 1
    assert not list(tmp_path.iterdir())


def test_predictions_are_exported(annotations: Path, tmp_path: Path) -> None:
    arguments = ("--benchmark", "sailvos", "--data", str(annotations), "--methods", "modal,hull", "-q")
    summary = evaluate(tmp_path / "out", *arguments, "--export", "davis,coco,youtube-vis")
    tracks = summary["tracks"]["scored"]
    for folder in (tmp_path / "out/exports/0_modal", tmp_path / "out/exports/1_hull"):
        videos = json.loads((folder / "youtube_vis.json").read_text(encoding="utf-8"))
        assert len(videos["annotations"]) == len(videos["videos"]) == tracks
        assert len(list((folder / "davis").rglob("*.png"))) == summary["tracks"]["frames"]
        assert json.loads((folder / "coco.json").read_text(encoding="utf-8"))["annotations"]
    truth = ("--annotations", str(tmp_path / "out/exports/annotations.json"), "--out", str(tmp_path / "scores"), "-q")
    for name, key in (("coco.json", "ap"), ("youtube_vis.json", "video_ap")):  # as evaluated, so none is left out
        assert main(["score", str(tmp_path / "out/exports/1_hull" / name), *truth, "--overwrite"]) == 0
        scores = json.loads((tmp_path / "scores/summary.json").read_text(encoding="utf-8"))
        assert scores[key]["ap50"] > 0
        assert not [entry for entry in scores if entry.endswith("left_out")]


def test_a_bad_track_stops_the_run_or_is_left_out(
    annotations: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ("--benchmark", "sailvos", "--data", str(annotations), "--methods", "modal,hull", "-q")
    whole = evaluate(tmp_path / "whole", *arguments)
    record = json.loads(annotations.read_text(encoding="utf-8"))[1]
    frame = annotations.parent / record["image_file_names"][2]
    moved = frame.rename(frame.with_name("away"))
    try:
        capsys.readouterr()
        evaluate(tmp_path / "out", *arguments, status=2)
        error = capsys.readouterr().err
        assert len(error.splitlines()) == 1
        assert error.startswith("error: track sailvos/")
        assert "--on-bad-track skip" in error
        assert not (tmp_path / "out").exists()
        skipping = evaluate(tmp_path / "out", *arguments, "--on-bad-track", "skip")  # goes on from what was done
    finally:
        moved.rename(frame)
    skipped = skipping["tracks"]["skipped"]
    assert skipping["tracks"]["scored"] == whole["tracks"]["scored"] - len(skipped)
    assert all(frame.name in reason for reason in skipped.values())
    assert "left out" in capsys.readouterr().out


def test_a_method_without_its_depth_is_no_bad_track(
    annotations: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ("--benchmark", "sailvos", "--data", str(annotations), "--methods", "modal,hull-nearer", "-q")
    evaluate(tmp_path / "out", *arguments, "--on-bad-track", "skip", status=2)
    assert "methods: hull-nearer: need depth, and sailvos/" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_published_checkpoints_with_estimated_depth(checkpoint: Path, annotations: Path, tmp_path: Path) -> None:
    depth = tiny_depth_folder(tmp_path / "depth_network")
    arguments = (
        "--benchmark",
        "sailvos",
        "--data",
        str(annotations),
        "--methods",
        f"{checkpoint}@depth",
        "--limit",
        "1",
    )
    arguments += ("--depth-model", str(depth), "--index-folder", str(tmp_path / "index"), "--device", "cpu", "-q")
    arguments += ONE_STEP
    ours = evaluate(tmp_path / "corrected", *arguments)
    released = evaluate(tmp_path / "released", *arguments, "--conditioning", "released")
    assert any((tmp_path / "index").iterdir())
    models = [summary["settings"]["models"].popitem()[1]["amodal_segmentation"] for summary in (ours, released)]
    assert [model["sampling"]["conditioning"] for model in models] == ["corrected", "released"]
    assert ours["settings"]["depth_model"] == str(depth)
    one, other = (json.loads((tmp_path / name / "results.json").read_text()) for name in ("corrected", "released"))
    assert one["tracks"] != other["tracks"]


def interrupted_after(tracks: int, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Interrupt the scoring after some tracks; gives the indices that are scored, also after the interruption ends."""
    scored: list[int] = []
    score = Scorer.score

    def counted(self: Scorer, track: Target, index: int) -> TargetResult:
        if len(scored) == tracks:
            scored.append(-1)
            raise KeyboardInterrupt
        scored.append(index)
        return score(self, track, index)

    monkeypatch.setattr(Scorer, "score", counted)
    return scored


def test_interrupted_it_goes_on_and_ends_with_the_same_bytes(
    annotations: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    data = ("--benchmark", "sailvos", "--data", str(annotations), "-q")
    arguments = ("--methods", "modal,hull", *data)
    whole = evaluate(tmp_path / "whole", *arguments)
    count = whole["tracks"]["scored"]
    out = tmp_path / "out"
    scored = interrupted_after(2, monkeypatch)
    evaluate(out, *arguments, status=130)
    assert scored == [0, 1, -1]
    assert not out.exists()
    evaluate(out, "--methods", "modal", *data, status=2)
    assert "begun by another command (other methods)" in capsys.readouterr().err
    evaluate(out, *arguments)
    assert scored == [0, 1, -1, *range(2, count)]
    assert_same(out, tmp_path / "whole")


@pytest.mark.slow
def test_killed_it_goes_on_and_ends_with_the_same_bytes(tmp_path: Path) -> None:
    count = 6
    arguments = ("--methods", "modal,temporal", "--limit", str(count), *SCENES)
    out, partial = tmp_path / "killed", tmp_path / "killed.partial"
    files = [partial / name for name in ResultStore.files(count)]
    with started(sys.executable, "-m", "amodal_diffusion", "evaluate", *arguments, "--out", str(out)) as process:
        while not files[1].exists():
            assert process.poll() is None
            time.sleep(0.01)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    assert not out.exists()
    evaluate(out, *arguments)
    evaluate(tmp_path / "whole", *arguments)
    assert_same(out, tmp_path / "whole")


@pytest.mark.slow
def test_two_processes_give_the_bytes_of_one(checkpoint: Path, tmp_path: Path) -> None:
    """`tests/evaluation/test_running.py` has the same for shares that are scored in one process."""
    arguments = ("--methods", f"modal,hull,{checkpoint}", "--top-k", "2", "--limit", "3", *SCENES, *ONE_STEP)
    command = ("-m", "amodal_diffusion", "evaluate", *arguments, "--out", str(tmp_path / "two"))
    with started(*LAUNCH, *command) as process:
        evaluate(tmp_path / "one", *arguments)  # meanwhile
        printed, _ = process.communicate(timeout=300)
    assert process.returncode == 0, printed
    assert printed.count("3 track(s) with 48 frames scored") == 1
    timing = json.loads((tmp_path / "two/timing.json").read_text(encoding="utf-8"))
    assert timing["processes"] == 2
    assert timing["tracks_by_process"] == {"0": 2, "1": 1}
    assert timing["threads"] == 1
    assert_same(tmp_path / "one", tmp_path / "two")


@pytest.mark.slow
def test_a_bad_track_of_one_process_ends_both(annotations: Path, tmp_path: Path) -> None:
    """The second process meets it; both end, and one line says why."""
    arguments = ("--benchmark", "sailvos", "--data", str(annotations), "--methods", "modal", "-q")
    record = json.loads(annotations.read_text(encoding="utf-8"))[1]
    frame = annotations.parent / record["image_file_names"][0]
    moved = frame.rename(frame.with_name("away"))
    try:
        out = str(tmp_path / "out")
        with started(*LAUNCH, "-m", "amodal_diffusion", "evaluate", *arguments, "--out", out) as process:
            printed, _ = process.communicate(timeout=300)
    finally:
        moved.rename(frame)
    assert process.returncode != 0
    assert len([line for line in printed.splitlines() if line.startswith("error: track sailvos/")]) == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.usefixtures("small_scenes")
def test_a_preset_is_in_the_summary_and_in_the_command(checkpoint: Path, tmp_path: Path) -> None:
    chosen = ("--preset", "paper", "--steps", "1", "--scheduler", "dpmpp")
    summary = evaluate(tmp_path / "out", "--methods", str(checkpoint), "--limit", "1", *chosen, *SCENES)
    record = summary["settings"]["models"][str(checkpoint)]["amodal_segmentation"]
    assert record["preset"] == "paper"
    sampling = record["sampling"]
    assert (sampling["num_inference_steps"], sampling["guidance_scale"], sampling["scheduler"]) == (1, 1.5, "dpmpp")
    assert "--preset paper" in summary["command"]
