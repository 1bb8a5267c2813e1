"""From the finished tracks of a run to its files: results, summary, timing, plots, contact sheet, page, exports."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from amodal_diffusion.evaluation.exports import Format, files_of_exports, write_exports
from amodal_diffusion.evaluation.report.page import render_page
from amodal_diffusion.evaluation.report.pictures import SHEET, choose_shown, write_contact_sheet
from amodal_diffusion.evaluation.report.plots import PLOTS, draw_plots
from amodal_diffusion.evaluation.report.tables import markdown
from amodal_diffusion.evaluation.results import FOLDER, TargetResult, json_text
from amodal_diffusion.evaluation.runner import Run
from amodal_diffusion.evaluation.summary import RunSummary
from amodal_diffusion.io.result_folder import OutputFolder
from amodal_diffusion.types import InputError

RESULTS, SUMMARY, SUMMARY_TEXT, TIMING, PAGE = (
    "results.json", "summary.json", "summary.md", "timing.json", "report.html"
)  # fmt: skip
PLOT_FOLDER = "plots"


@dataclass(frozen=True)
class Account:
    """How a run came about.

    Attributes:
        settings: all that results depend on, JSON values.
        command: repeats the run in a folder of its own.
        formats: in which predictions are exported.
        processes: that finish it.
        device: of the main one.
    """

    settings: Mapping[str, Any]
    command: str
    formats: Sequence[Format]
    processes: int
    device: str


@dataclass(frozen=True)
class Findings:
    """What a run found, for whoever prints it.

    Attributes:
        summary: as in summary.json.
        seconds: that one prediction took, by method.
    """

    summary: dict[str, Any]
    seconds: dict[str, float]


def finish(run: Run, account: Account, folder: OutputFolder) -> Findings:
    """Write everything from the tracks' own files, which are all there and then go, and put the folder in its place.

    Args:
        run: whose tracks are done.
        account: of it.
        folder: of the results, open.

    Raises:
        InputError: if no track could be scored.
    """
    methods = [method.name for method in run.scorer.methods]
    gathered, timing = RunSummary(run.scorer.methods), _Timing()
    for track in run.store:
        gathered.add(track)
        timing.add(track)
    if not gathered.tracks:
        (first, *_) = gathered.skipped
        raise InputError(f"no track could be scored, the first, {first.identity}, because {first.reason}")
    head = {"benchmark": run.benchmark.name, "settings": account.settings, "command": account.command}
    summary = {**head, **gathered.record()}
    files = [RESULTS, SUMMARY, SUMMARY_TEXT, TIMING, PAGE, SHEET, *(f"{PLOT_FOLDER}/{name}" for name in PLOTS)]
    if account.formats:
        files += files_of_exports(run.store, methods, account.formats)
    with folder.step("report", files) as work:
        run.store.write_results(work / RESULTS, head)
        _write(work / SUMMARY, json_text(summary))
        _write(work / SUMMARY_TEXT, markdown(summary))
        _write(work / TIMING, json_text(timing.record(account)))
        plots = draw_plots(gathered, methods)
        for name, content in plots.items():
            (work / PLOT_FOLDER / name).write_bytes(content)
        shown = choose_shown(gathered, run)
        write_contact_sheet(shown, work / SHEET)
        _write(work / PAGE, render_page(summary, gathered, plots=plots, shown=shown))
        if account.formats:
            write_exports(run.store, methods, account.formats, work)
    folder.commit(discarding=FOLDER)  # after the rename: a kill before it finds them again
    return Findings(summary, timing.seconds())


class _Timing:
    """Times and places of the tracks' predictions, which no result depends on."""

    def __init__(self) -> None:
        self._processes: Counter[int] = Counter()
        self._seconds: dict[str, list[float]] = {}

    def add(self, track: object) -> None:
        if isinstance(track, TargetResult):
            self._processes[track.process] += 1
            for name, method in track.methods.items():
                self._seconds.setdefault(name, []).append(method.seconds)

    def seconds(self) -> dict[str, float]:
        """Mean time of one prediction, by method."""
        return {name: sum(values) / len(values) for name, values in self._seconds.items()}

    def record(self, account: Account) -> dict[str, object]:
        return {
            "processes": account.processes,
            "tracks_by_process": {str(number): count for number, count in sorted(self._processes.items())},
            "threads": torch.get_num_threads(),
            "device": account.device,
            "seconds_a_prediction": self.seconds(),
            "finished": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        }


def _write(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")
