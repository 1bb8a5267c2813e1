"""Guards against invented shape, on frames worked by hand."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

from amodal_diffusion.pipelines.postprocessing import GUARDS, Guardian, Guards
from amodal_diffusion.types import BoolArray, FloatArray, InputError


@dataclass
class Frame:
    modal: BoolArray
    depth: FloatArray | None = None


def mask(text: str) -> BoolArray:
    """A picture of one row: ``#`` is inside."""
    return np.array([[letter == "#" for letter in text]])


def guarded(names: str, frames: list[Frame], hidden: list[str], score: list[float] | None = None) -> list[str]:
    guardian = Guardian(Guards.of(names.split(",")))
    guardian.look_ahead(0, frames)
    width = len(hidden[0])
    sure = np.array([score or [1.0] * width], np.float32)
    kept = [
        guardian.guard(number, frame, mask(text), sure, reach=0)
        for number, (frame, text) in enumerate(zip(frames, hidden, strict=True))
    ]
    lost = sum(int(mask(text).sum()) for text in hidden) - sum(int(entry.sum()) for entry in kept)
    removed = [guardian.take_removed(number) for number in range(len(frames))]
    assert sum(sum(counts.values()) for counts in removed) == lost
    assert all(counts[name] == 0 for name in GUARDS if name not in names for counts in removed)
    assert not any(guardian.take_removed(0).values())
    return ["".join("#" if inside else "." for inside in entry[0]) for entry in kept]


def depth(*values: float) -> FloatArray:
    return np.array([values], np.float32)


def test_only_behind_nearer_things() -> None:
    seen = Frame(mask("##...."), depth(0.5, 0.5, 0.9, 0.1, 0.9, 0.5))
    assert guarded("behind", [seen], ["..####"]) == ["..#.#."]
    assert guarded("behind", [Frame(seen.modal)], ["..####"]) == ["..####"]  # nothing is known without depth


def test_a_frame_that_shows_nothing_takes_the_depth_of_the_nearest_that_does() -> None:
    near, far = depth(0.8, 0.7, 0.9), depth(0.2, 0.1, 0.9)
    frames = [Frame(mask("#.."), near), Frame(mask("..."), near), Frame(mask("..."), near), Frame(mask("#.."), far)]
    assert guarded("behind", frames, ["...", "###", "###", "..."]) == ["...", "..#", "###", "..."]


def test_a_later_window_remembers_where_the_object_was() -> None:
    guardian = Guardian(Guards())
    guardian.look_ahead(0, [Frame(mask("#.."), depth(0.5, 0.4, 0.9))])
    guardian.look_ahead(1, [Frame(mask("..."), depth(0.5, 0.4, 0.9))])
    hidden = guardian.guard(1, Frame(mask("..."), depth(0.5, 0.4, 0.9)), mask("###"), np.ones((1, 3)), reach=0)
    assert np.array_equal(hidden, mask("..#"))


def test_pieces_that_hang_on_nothing_go() -> None:
    assert guarded("attached", [Frame(mask(".#...."))], ["#.#.##"]) == ["#.#..."]
    assert guarded("attached", [Frame(mask("......"))], ["#.##.#"]) == ["..##.."]
    guardian = Guardian(Guards())
    guardian.look_ahead(0, [Frame(mask("###..."))])
    hidden = guardian.guard(0, Frame(mask("###...")), mask("....##"), np.ones((1, 6)), reach=1)
    assert np.array_equal(hidden, mask("....##"))  # over a gap of one pixel


def test_what_is_least_sure_goes_where_it_grows_too_large() -> None:
    frames = [Frame(mask("#........")), Frame(mask("#........"))]
    sure = [0.0, 0.9, 0.8, 0.1, 0.7, 0.6, 0.2, 0.3, 0.0]
    assert guarded("growth", frames, [".#######.", ".##......"], sure) == [".##.##...", ".##......"]


def test_guards_by_name() -> None:
    assert Guards.of(["all"]) == Guards()
    assert Guards.of(["none"]) == Guards(behind=False, attached=False, growth=False)
    assert guarded("none", [Frame(mask("#..."), depth(0.5, 0.1, 0.1, 0.1))], [".#.#"]) == [".#.#"]
    with pytest.raises(InputError, match=r"guards: expected all, none or some of behind, attached, growth, got often"):
        Guards.of(["often"])
