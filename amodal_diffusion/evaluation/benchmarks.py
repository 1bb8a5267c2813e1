"""All benchmarks by name, opened from what a user gives."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

from amodal_diffusion.data.scenes import Split
from amodal_diffusion.evaluation.benchmark import Benchmark
from amodal_diffusion.evaluation.scenes import CLIPS, ScenesBenchmark
from amodal_diffusion.types import InputError

BENCHMARKS: tuple[str, ...] = ("scenes",)


def open_benchmark(
    name: str,
    *,
    data: Path | None = None,
    images: Path | None = None,
    depth: Path | None = None,
    split: str | None = None,
    limit: int | None = None,
) -> Benchmark:
    """Open a benchmark; its tracks are listed here and read when they are asked for.

    docs/data.md has the layout of each one's files.

    Args:
        name: one of `BENCHMARKS`.
        data: its file or folder; none for ``scenes``, which are made.
        images: root of the frames, where an annotation file is not beside them.
        depth: root of depth pictures, nearer is larger, each under the path that its frame has below `images`; for
            benchmarks of annotation files, which have no depth of their own.
        split: of ``scenes``: test-v1 (by default), validation or train.
        limit: take the first so many tracks; all by default.

    Raises:
        InputError: if the name is unknown, an argument is missing or is not for this benchmark, or nothing is there.
    """
    if name not in BENCHMARKS:
        raise InputError(f"benchmark: expected one of {', '.join(BENCHMARKS)}, got {name}")
    _refuse(name, data=data, images=images, depth=depth)
    return ScenesBenchmark(_split(split), CLIPS if limit is None else limit)


def _refuse(benchmark: str, **arguments: Path | str | None) -> None:
    """Refuse arguments that a benchmark has no use for."""
    for name, value in arguments.items():
        if value is not None:
            raise InputError(f"{name}: expected none for the benchmark {benchmark}, got {value}; leave it out")


def _split(name: str | None) -> Split:
    for split in get_args(Split):
        if name in (split, None):
            found: Split = "test-v1" if name is None else split
            return found
    raise InputError(f"split: expected one of {', '.join(get_args(Split))}, got {name}")
