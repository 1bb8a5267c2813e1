"""The list of downloads: one line a format, which follows from the files of a result."""

from __future__ import annotations

import re
import zipfile
from pathlib import Path

import pytest

from amodal_diffusion.app.downloads import DOWNLOADS, choices, download_list, pack
from amodal_diffusion.completion.option_values import FORMATS


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """A result of two objects, the files of which are empty."""
    names = ["manifest.json", "overlay.mp4", "summary.json", "coco.json"]
    for number in "12":
        names += [f"objects/{number}/completed.mov", f"objects/{number}/amodal_masks/00000.png"]
        names += [f"objects/{number}/completed/{frame:05d}.png" for frame in range(3)]
    for name in names:
        (tmp_path / "results" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "results" / name).touch()
    return tmp_path / "results"


def titles(html: str) -> list[str]:
    return re.findall(r"<tr><td>.*?>([^<]+)</a>", html)


def test_each_format_is_a_line_and_records_come_last(results: Path) -> None:
    pack(results)
    html = download_list(results)
    expected = ["ProRes 4444 (MOV), object 1", "PNG pictures (zip)", "Masks as COCO (JSON)", "Overlay (MP4)"]
    assert titles(html) == [*expected, "Everything (zip)"]
    assert "DaVinci Resolve" in html
    assert html.index("Everything") < html.index("manifest.json")


@pytest.mark.parametrize("folder", ["completed", "layers"])
def test_the_zip_of_pictures_has_the_layers_alone(results: Path, folder: str) -> None:
    if folder == "layers":  # those with a soft edge
        for number in "12":
            (results / f"objects/{number}/completed").rename(results / f"objects/{number}/layers")
    pack(results)
    with zipfile.ZipFile(results.with_name("layers.zip")) as archive:
        expected = [f"layers/objects/{number}/{folder}/{frame:05d}.png" for number in "12" for frame in range(3)]
        assert archive.namelist() == expected
    with zipfile.ZipFile(results.with_name("results.zip")) as archive:
        assert "results/manifest.json" in archive.namelist()


def test_a_single_layered_file_is_offered_itself(results: Path) -> None:
    (results / "layered").mkdir()
    for frame, expected in ((8, "00008.psd"), (9, "psd.zip")):
        (results / f"layered/{frame:05d}.psd").touch()
        pack(results)
        html = download_list(results)
        assert re.search(rf'<tr><td><a[^>]*download="{expected}"', html)
        assert ("it is frame 8, which hides most" in html) == (frame == 8)


def test_only_formats_that_this_version_writes_are_offered() -> None:
    names = [name for _, name in choices()]
    assert set(names) <= set(FORMATS)
    assert {"prores", "webm", "coco"} <= set(names)
    assert len({entry.format for entry in DOWNLOADS}) == len(DOWNLOADS)
