"""Scoring a share of the tracks: kept one by one, stopped or left out where one is bad, stopped by another process."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from amodal_diffusion.basics import InputError
from amodal_diffusion.evaluation import runner
from amodal_diffusion.evaluation.methods import build_methods
from amodal_diffusion.evaluation.processes import Processes
from amodal_diffusion.evaluation.results import SkippedTarget, TargetResult
from amodal_diffusion.evaluation.runner import STOP, BadTrack, Provenance, Run, Scorer
from amodal_diffusion.io.result_folder import OutputFolder
from tests.squares import Guess, Squares


def begun(path: Path, benchmark: Squares, on_bad_track: BadTrack = "stop", methods: str = "modal") -> Run:
    """A run whose folder is there; nobody else is at work in it."""
    folder = OutputFolder(path / "out", inputs={}, settings={})
    run = Run(benchmark, Scorer(build_methods([methods])), folder.work, on_bad_track)
    folder.work.mkdir(exist_ok=True)
    assert run.begin(folder) == run.store.missing(keep_skipped=on_bad_track == "skip")
    return run


def test_a_share_is_kept_whatever_its_order(tmp_path: Path) -> None:
    run = begun(tmp_path, Squares(4))
    run.score([3, 1])
    assert run.store.missing(keep_skipped=False) == [0, 2]
    assert isinstance(run.store.read(3), TargetResult)


def test_shares_of_two_processes_give_the_bytes_of_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "draw_plots", lambda *_: {})  # test_report.py has the plots
    methods = [*build_methods(["modal"]), Guess()]

    def finished(path: Path, processes: int) -> bytes:
        folder = OutputFolder(path, inputs={}, settings={})
        runs = [
            Run(Squares(3), Scorer(methods, top_k=2, process=index), folder.work, "stop") for index in range(processes)
        ]
        with folder.opened():
            missing = runs[0].begin(folder)
            for index, run in reversed(list(enumerate(runs))):
                run.score(missing[index::processes])
            runs[0].finish(Provenance({}, "amodal-diffusion evaluate --out DIR", [], processes, "cpu"), folder)
        return b"".join((path / name).read_bytes() for name in ("results.json", "summary.json", "summary.md"))

    assert finished(tmp_path / "one", 1) == finished(tmp_path / "two", 2)
    timing = json.loads((tmp_path / "two/timing.json").read_text(encoding="utf-8"))
    assert timing["tracks_by_process"] == {"0": 2, "1": 1}


def test_a_bad_track_is_named_and_stops_all(tmp_path: Path) -> None:
    run = begun(tmp_path, Squares(4, bad=1))
    with pytest.raises(InputError, match=r"track squares/1: frame 2 of 1: is damaged; mend it, or .* skip"):
        run.score([0, 1, 2])
    assert run.store.missing(keep_skipped=False) == [1, 2, 3]
    run.score([2, 3])  # another process, that comes to its next track
    assert run.store.missing(keep_skipped=False) == [1, 2, 3]
    again = begun(tmp_path, Squares(4))
    assert not (again.folder / STOP).exists()
    again.score([1, 2, 3])
    assert again.store.missing(keep_skipped=False) == []


def test_a_bad_track_is_left_out_and_looked_at_again_where_it_may_not_be(tmp_path: Path) -> None:
    run = begun(tmp_path, Squares(3, bad=1), "skip")
    run.score(range(3))
    assert run.store.read(1) == SkippedTarget(1, "squares/1", "frame 2 of 1: is damaged")
    assert run.store.missing(keep_skipped=True) == []
    assert begun(tmp_path, Squares(3, bad=1), "stop").store.missing(keep_skipped=False) == [1]


def test_a_method_that_needs_depth_is_no_matter_of_a_track(tmp_path: Path) -> None:
    run = begun(tmp_path, Squares(3, depth=False), "skip", methods="hull-nearer")
    with pytest.raises(InputError, match="hull-nearer: need depth"):
        run.score(range(3))


def test_a_process_alone_does_all_and_says_what_fails() -> None:
    processes = Processes()
    assert (processes.count, processes.index, processes.is_main) == (1, 0, True)
    assert processes.share([1, 2, 3]) == [1, 2, 3]
    assert processes.main_alone(lambda: "done") == "done"

    def full() -> None:
        raise OSError(28, "No space left on device")

    with pytest.raises(InputError, match="No space left on device"):
        processes.together(full)
    processes.end()
