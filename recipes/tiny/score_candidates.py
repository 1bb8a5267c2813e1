"""Which model ships: `python -m recipes.tiny.score_candidates MODEL ... --cutouts runs/cutouts --out runs/candidates`.

The sum of mIoU_occ (strict protocol, default settings, no depth) over the first 48 validation scenes and the first 48
validation composites decides. Each model is evaluated by
`amodal-diffusion evaluate`, whose report stays in OUT; the same command goes on where it was interrupted.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from amodal_diffusion.basics import InputError
from amodal_diffusion.cli import main as amodal_diffusion

CLIPS = 48
SPLITS = ("validation", "composites-validation")


@dataclass(frozen=True)
class Candidate:
    """One model's figures.

    Attributes:
        model: name or folder.
        miou_occ: of each of `SPLITS`, without depth.
    """

    model: str
    miou_occ: tuple[float, ...]

    @property
    def total(self) -> float:
        """What decides."""
        return sum(self.miou_occ)


def score(model: str, cutouts: Path, out: Path, clips: int) -> Candidate:
    """Evaluate one model on both splits.

    Args:
        model: name or folder.
        cutouts: folder of cut-outs.
        out: folder for the reports.
        clips: of each split.

    Raises:
        InputError: if an evaluation fails; it has printed why.
    """
    figures = []
    for split in SPLITS:
        report = out / f"{re.sub(r'[^A-Za-z0-9.-]+', '_', model).strip('_')}-{split}"
        data = ["--data", str(cutouts)] if split == "composites-validation" else []
        command = ["evaluate", "--split", split, *data, "--limit", str(clips), "--methods", model, "--out", str(report)]
        if amodal_diffusion([*command, "-q"]) != 0:
            raise InputError(f"{model}: amodal-diffusion {' '.join(command)} failed, see above")
        summary: dict[str, Any] = json.loads((report / "summary.json").read_text(encoding="utf-8"))
        figures.append(float(summary["methods"][model]["strict"]["miou_occ"]))
    return Candidate(model, tuple(figures))


def table(candidates: Sequence[Candidate]) -> str:
    """The models from the best to the worst."""
    ordered = sorted(candidates, key=lambda entry: -entry.total)
    lines = ["| model | " + " | ".join(SPLITS) + " | sum |", "| --- " * 4 + "|"]
    for entry in ordered:
        cells = [entry.model, *(f"{value:.3f}" for value in (*entry.miou_occ, entry.total))]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join([*lines, f"ships: {ordered[0].model}"])


def main(args: Sequence[str]) -> int:
    """Score the models and print the table; the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", metavar="MODEL", help="bundled name or folder")
    parser.add_argument("--cutouts", type=Path, required=True, help="folder of cut-outs")
    parser.add_argument("--out", type=Path, default=Path("runs/candidates"), help="folder for the reports")
    parser.add_argument("--clips", type=int, default=CLIPS, help="clips of each split")
    given = parser.parse_args(args)
    try:
        candidates = [score(model, given.cutouts, given.out, given.clips) for model in given.models]
    except InputError as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    sys.stdout.write(table(candidates) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
