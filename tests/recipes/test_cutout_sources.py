"""Readers of the packages of cut-outs, on tiny stand-ins that the tests write."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from amodal_diffusion.basics import InputError
from amodal_diffusion.synthetic.composites.cutouts import read_index, read_pictures
from recipes.tiny import cutout_sources
from recipes.tiny.collect_cutouts import CollectSettings, collect


def _picture(color: tuple[int, int, int], *, hole: bool = False) -> np.ndarray:
    rows, columns = np.mgrid[0:40, 0:40] - 19.5
    distance = np.hypot(rows, columns)
    picture = np.zeros((40, 40, 4), np.uint8)
    picture[(distance < 18) & ((distance > 12) if hole else True)] = (*color, 255)
    return picture


def _save(path: Path, picture: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(picture).save(path, lossless=True)


def _patch(color: int) -> bytes:
    """A picture of 30 x 30 pixels of one color in Doom's format, anchored at its lower edge."""
    column = bytes([0, 30, 0, *[color] * 30, 0, 255])
    starts = [8 + 4 * 30 + k * len(column) for k in range(30)]
    return struct.pack("<hhhh30i", 30, 30, 15, 30, *starts) + column * 30


def _wad(path: Path) -> Path:
    lumps = {"PLAYPAL": bytes(range(256)) * 3, "S_START": b""}
    lumps |= {f"POSS{frame}3{frame}7": _patch(40 + k) for k, frame in enumerate("ABCD")}
    lumps |= {"S_END": b""}
    at, table, data = 12, b"", b""
    for name, lump in lumps.items():
        table += struct.pack("<ii8s", at + len(data), len(lump), name.encode())
        data += lump
    path.write_bytes(struct.pack("<4sii", b"PWAD", len(lumps), 12 + len(data)) + data + table)
    return path


def test_emoji_are_grouped_by_what_they_show(tmp_path: Path) -> None:
    for name in ("1f408", "1f63a", "1f600", "1f1e9-1f1ea", "1f469-1f3fd-200d-1f680"):
        _save(tmp_path / "assets" / f"{name}.webp", _picture((200, 120, 30)))
    found = {thing.name: thing for thing in cutout_sources.emoji(tmp_path)}
    assert {name: thing.category for name, thing in found.items()} == {
        "1f408": "cat", "1f63a": "cat", "1f600": "smiley", "1f469-1f3fd-200d-1f680": "rocket",
    }  # fmt: skip
    assert found["1f600"].weight < found["1f408"].weight


def test_clip_art_is_one_solid_thing_with_colors(tmp_path: Path) -> None:
    _save(tmp_path / "animals" / "cat_jane_01.png", _picture((200, 120, 30)))
    _save(tmp_path / "animals" / "ring.png", _picture((200, 120, 30), hole=True))
    _save(tmp_path / "animals" / "dog_ink.png", _picture((0, 0, 0)))
    _save(tmp_path / "shapes" / "disk.png", _picture((200, 120, 30)))
    assert [thing.category for thing in cutout_sources.clipart(tmp_path)] == ["cat"]


def test_figures_walk_to_both_sides(tmp_path: Path) -> None:
    left, right = cutout_sources.freedoom(_wad(tmp_path / "a.wad"))
    assert (left.facing, right.facing) == (-1.0, 1.0)
    assert left.category == right.category == "poss"
    assert len(left.pictures) == 4
    assert left.pictures[1].shape == (30, 30, 4)
    assert (left.pictures[1][..., 3] == 255).all()
    (tmp_path / "b.wad").write_bytes(b"RIFF" * 8)
    with pytest.raises(InputError, match="expected a WAD file"):
        list(cutout_sources.freedoom(tmp_path / "b.wad"))


def test_a_folder_grows_package_by_package(tmp_path: Path) -> None:
    out = tmp_path / "out"
    for frame in range(2):
        _save(tmp_path / "own" / "robot" / "walk" / f"{frame}.png", _picture((30, 90, 200)))
    _save(tmp_path / "own" / "cat" / "tom.png", _picture((200, 120, 30)))
    first = CollectSettings(out=out, own=tmp_path / "own", own_licence="CC0-1.0")
    assert collect(first) == {"own": (2, 3)}
    both = CollectSettings(out=out, own=tmp_path / "own", freedoom=_wad(tmp_path / "a.wad"))
    assert collect(both) == {"own": (2, 3), "freedoom": (2, 8)}
    cutouts, versions = read_index(out)
    assert versions["freedoom"] == "0.12.1"
    assert {c.name: (c.category, c.kind, c.licence) for c in cutouts if c.source == "own"} == {
        "cat/tom": ("cat", "thing", "CC0-1.0"),
        "robot/walk": ("robot", "person", "CC0-1.0"),
    }
    assert all(len(read_pictures(out, cutout)) == len(cutout.files) for cutout in cutouts)
    with pytest.raises(InputError, match="no package given"):
        collect(CollectSettings(out=out))
