"""Benchmarks by name: what each takes, and what it refuses."""

from __future__ import annotations

from pathlib import Path

import pytest

from amodal_diffusion.evaluation.benchmarks import open_benchmark
from amodal_diffusion.types import InputError


def test_scenes_are_the_fixed_split_unless_another_is_named() -> None:
    benchmark = open_benchmark("scenes")
    assert (benchmark.name, len(benchmark)) == ("scenes/test-v1", 200)
    benchmark = open_benchmark("scenes", split="validation", limit=3)
    assert (benchmark.name, len(benchmark)) == ("scenes/validation", 3)


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("lvis", {}, "benchmark: expected one of scenes"),
        ("scenes", {"split": "test"}, "split: expected one of train, validation, test-v1, got test"),
        ("scenes", {"data": Path("here")}, "data: expected none for the benchmark scenes, got here"),
        ("scenes", {"limit": 0}, "limit: expected 1 to 200"),
    ],
)
def test_a_wrong_argument_is_named(name: str, arguments: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        open_benchmark(name, **arguments)  # type: ignore[arg-type]
