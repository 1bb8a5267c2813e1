"""The generated pages say what the parsers and docstrings say now."""

from __future__ import annotations

import runpy
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from PIL import Image

import amodal_diffusion
from amodal_diffusion import commands
from amodal_diffusion.parsing import CommandParser
from tests.documents import GENERATED, ROOT, read

TEASER: dict[str, Any] = runpy.run_path(str(ROOT / "docs/teaser.py"))
GENERATOR: dict[str, Any] = runpy.run_path(str(ROOT / "docs/generate.py"))
PAGES: dict[str, Callable[[], str]] = GENERATOR["PAGES"]


def test_all_generated_pages_are_known() -> None:
    assert {f"docs/{name}" for name in PAGES} == set(GENERATED)


@pytest.mark.parametrize("name", PAGES)
def test_a_page_is_current(name: str) -> None:
    assert read(f"docs/{name}") == PAGES[name](), "run `make docs`"


def test_every_public_name_has_a_section() -> None:
    page = read("docs/python.md")
    assert all(f"\n## {name}\n" in page for name in amodal_diffusion.__all__)


def test_options_are_listed_with_value_default_and_mark() -> None:
    parser = CommandParser()
    group = parser.add_argument_group("model")
    group.add_argument("--size", metavar="N", type=int, default=3, help="pixels | lines")
    group.add_argument("--must", choices=["a", "b"], required=True, help="choose")
    group.add_argument("--rare", action="store_true", help="seldom used")
    parser.advanced = {"rare"}
    title, table = GENERATOR["option_tables"](parser)
    assert title == "**Model**"
    assert table.splitlines()[2:] == [
        r"| `--size` `N` | pixels \| lines (default: `3`) |",
        r"| `--must` `a\|b` | choose (required) |",
        "| `--rare` † | seldom used |",
    ]


def test_every_subcommand_has_a_section() -> None:
    names = [path.stem for path in (ROOT / "amodal_diffusion/commands").glob("[a-z]*.py")]
    assert names
    assert commands.__doc__
    assert all(f"\n## {name}\n" in read("docs/cli.md") for name in names)


def test_the_animation_shows_what_is_given_and_what_is_predicted() -> None:
    visible, amodal = np.zeros((2, 192, 384), dtype=np.bool_)
    visible[:50, :50] = amodal[:50, :80] = True
    panel = TEASER["draw_mask"](visible, amodal)
    assert tuple(panel[0, 0]) == TEASER["VISIBLE"]
    assert tuple(panel[0, 60]) == TEASER["HIDDEN"]
    assert tuple(panel[0, 90]) == TEASER["MASK_BACKGROUND"]
    layer = np.zeros((192, 384, 4), dtype=np.uint8)
    layer[amodal] = (10, 20, 30, 255)
    assert (TEASER["draw_layer"](layer)[amodal] == (10, 20, 30)).all()
    with Image.open(ROOT / "docs/images/teaser.webp") as shown:
        assert shown.size == TEASER["compose"]({"a": panel, "b": panel, "c": panel, "d": panel}).size
        assert shown.n_frames == TEASER["FRAMES"]
