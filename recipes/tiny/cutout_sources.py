"""Readers of the packages whose pictures become cut-outs; each yields things with their pictures as they are stored."""

from __future__ import annotations

import hashlib
import math
import re
import struct
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image
from scipy import ndimage

from amodal_diffusion.basics import InputError
from amodal_diffusion.types import UInt8Array

_LEAST_SIDE = 24  # pixels; a smaller picture shows nothing at a close look
_LARGEST_SIDE = 512


@dataclass(frozen=True)
class Found:
    """A thing of a package.

    Attributes:
        name: unique in its package.
        category: word for what it shows.
        sha256: of the files or the lumps that hold its pictures; None if a program rendered them.
        pictures: uint8 ``[h, w, 4]`` of one size each.
        kind: see :class:`~amodal_diffusion.synthetic.composites.cutouts.Cutout`.
        facing: likewise.
        weight: likewise.
    """

    name: str
    category: str
    sha256: str | None
    pictures: list[UInt8Array]
    kind: Literal["thing", "person"] = "thing"
    facing: float = 0.0
    weight: float = 1.0


def _rgba(path: Path) -> UInt8Array:
    with Image.open(path) as picture:
        whole = picture.convert("RGBA")
        whole.thumbnail((_LARGEST_SIDE, _LARGEST_SIDE), Image.Resampling.BOX)
        return np.asarray(whole)


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


# --- Fluent emoji: assets/CODEPOINTS.webp

_TONES = range(0x1F3FB, 0x1F400)
_JOINERS = {0x200D, 0xFE0F, 0x2640, 0x2642}
_PEOPLE = {0x1F468, 0x1F469, 0x1F9D1, 0x1F466, 0x1F467, 0x1F9D2}
_NO_THING = re.compile(
    r"SIGN\b|SYMBOL|SQUARE|ARROW|BUTTON|KEYCAP|CLOCK FACE|FLAG|CIRCLE|TRIANGLE|DIAMOND|INPUT|LETTER|IDEOGRAPH|"
    r"RADIO|MARK\b|BUBBLE|REGIONAL|DIGIT|SALTIRE|ASTERISK|SPARKLE\b|INFINITY|NUMBER|CHART|BAR|PART ALTERNATION|"
    r"TRIGRAM|CROSS\b|RECYCLING|TRIDENT|ARIES|TAURUS|GEMINI|CANCER|LEO|VIRGO|LIBRA|SCORPIUS|SAGITTARIUS|CAPRICORN|"
    r"AQUARIUS|PISCES|OPHIUCHUS|WHEEL OF|STAR OF|STAR AND|YIN YANG|PEACE\b|ATOM|MUSICAL|NO |NON-|DO NOT|CURLY|SUIT"
)
_SMILEYS = (range(0x1F600, 0x1F640), range(0x1F910, 0x1F918), range(0x1F920, 0x1F930), range(0x1F970, 0x1F97B))
_FILLERS = {"face", "symbol", "emoji", "black", "white", "heavy", "the", "and", "of", "a"}


def emoji(package: Path) -> Iterator[Found]:
    """Fluent emoji in 3-D look, without signs, letters, clocks and flags.

    All tones and genders of one are in one category. Faces are drawn less often than their number says, and so are
    those that differ in tone alone.

    Args:
        package: the unpacked npm package `@lobehub/fluent-emoji-3d`.
    """
    for path in _files(package / "assets", ".webp"):
        points = [int(part, 16) for part in path.stem.split("-")]
        name = unicodedata.name(chr(points[0]), "")
        if not name or _NO_THING.search(name) or any(p in range(0x1F1E6, 0x1F200) or p == 0x20E3 for p in points):
            continue
        plain = [p for p in points if p not in _TONES and p not in _JOINERS]
        subject = plain[1] if len(plain) > 1 and plain[0] in _PEOPLE else plain[0]
        smiley = any(subject in block for block in _SMILEYS) and "CAT" not in name and "MONKEY" not in name
        toned = any(p in _TONES for p in points)
        category = "smiley" if smiley else emoji_category(unicodedata.name(chr(subject), name))
        weight = 0.15 if smiley else 0.1 if toned else 1.0
        yield Found(path.stem, category, _digest(path), [_rgba(path)], weight=weight)


def emoji_category(name: str) -> str:
    """The last word that says something in a Unicode name: ``CAT FACE WITH WRY SMILE`` is a cat."""
    words = re.split(r"[ -]", re.split(r" WITH | OVER | IN ", name)[0].lower())
    useful = [word for word in words if word not in _FILLERS]
    return useful[-1] if useful else words[-1]


# --- Open Clip Art Library: folders of PNG files

_NO_CLIPART = (
    "shapes", "special", "logos", "signs_and_symbols", "geography", "buttons", "cards", "duplicates", "icons",
    "flags", "patterns", "gradients", "flowchart", "jigsaw", "callouts", "arrows", "roadsigns", "hazard", "awards",
    "map_symbols", "emblems", "aiga-symbols", "semaphore", "dice", "money", "diagrams", "stickmen", "pantyhose",
)  # fmt: skip
_NO_WORDS = re.compile(r"flag|frame|border|map|text|logo|sign|symbol|letter|banner|icon|button|pattern|card|title|note")
_FILLED = (0.14, 0.86)
"""Least and largest share of its box that a picture fills: less is a sketch of lines, more is a photo or a card."""
_MOST_PIXELS = 4_000_000
"""A few pictures are posters of a hundred million pixels."""
_MOST_HOLES = 0.12
"""A line drawing that nobody filled has holes where the thing has none, and true holes are rarely larger."""


_MOST_INK = 0.85
"""Largest share of black and white among the solid pixels: more is a drawing in ink or a silhouette."""


def clipart(folder: Path) -> Iterator[Found]:
    """Pictures of single things from the Open Clip Art Library.

    Args:
        folder: ``usr/share/openclipart/png`` of the Debian package `openclipart-png`.
    """
    for path in _files(folder, ".png"):
        name = path.relative_to(folder).as_posix()
        if any(part in _NO_CLIPART for part in path.relative_to(folder).parts) or _NO_WORDS.search(path.stem.lower()):
            continue
        try:
            if math.prod(struct.unpack(">II", path.read_bytes()[16:24])) > _MOST_PIXELS:  # size in the PNG's header
                continue
            picture = _rgba(path)
        except (OSError, ValueError, struct.error):  # a few files of the package are damaged
            continue
        if is_one_thing(picture) and not is_ink(picture):
            yield Found(name, clipart_category(path), _digest(path), [picture])


def clipart_category(path: Path) -> str:
    """The first word of a file's name; files are named SUBJECT_AUTHOR_NUMBER."""
    words = re.findall(r"[a-z]{3,}", path.stem.lower())
    return words[0] if words else path.parent.name


def is_one_thing(picture: UInt8Array) -> bool:
    """Whether a picture shows one solid piece on a transparent ground.

    Args:
        picture: uint8 ``[h, w, 4]``.
    """
    solid = picture[..., 3] >= 128
    rows, columns = np.flatnonzero(solid.any(axis=1)), np.flatnonzero(solid.any(axis=0))
    if len(rows) < _LEAST_SIDE or len(columns) < _LEAST_SIDE:
        return False
    box = solid[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    if not _FILLED[0] <= box.mean() <= _FILLED[1]:
        return False
    pieces, _ = ndimage.label(box)
    holes = ndimage.binary_fill_holes(box) & ~box
    return bool(np.bincount(pieces.ravel())[1:].max() >= 0.97 * box.sum() and holes.sum() <= _MOST_HOLES * box.sum())


def is_ink(picture: UInt8Array) -> bool:
    """Whether a picture, uint8 ``[h, w, 4]``, is nearly all black and white."""
    colors = picture[picture[..., 3] >= 128, :3]
    return bool(((colors.max(axis=1) < 32) | (colors.min(axis=1) > 224)).mean() > _MOST_INK)


# --- Freedoom: sprites in a WAD file

_FIGURES = [
    "PLAY",
    "POSS",
    "SPOS",
    "TROO",
    "SARG",
    "HEAD",
    "BOSS",
    "BOS2",
    "SKEL",
    "CPOS",
    "SSWV",
    "VILE",
    "FATT",
    "BSPI",
    "PAIN",
    "SKUL",
    "CYBR",
    "SPID",
    "KEEN",
]
_WALK = "ABCD"
_FACING = {"1": 0.0, "2": -0.7, "3": -1.0, "4": -0.7, "5": 0.0, "6": 0.7, "7": 1.0, "8": 0.7}
_NO_SPRITES = re.compile(
    r"^(PIS|SHT|CHG|PUN|SAW|MIS|PLS|BFG)[A-Z]|PUFF|BLUD|TFOG|IFOG|FIRE|BAL|FBXP|APLS|APBX|BFE|PLSE"
)


def freedoom(wad: Path) -> Iterator[Found]:
    """Things of Freedoom, and its figures as they walk.

    Args:
        wad: ``usr/share/games/doom/freedoom2.wad`` of the Debian package `freedoom`.
    """
    palette, lumps = _read_wad(wad)
    figures: dict[str, dict[str, tuple[UInt8Array, tuple[int, int], bytes]]] = {}
    for name, lump in lumps.items():
        if _NO_SPRITES.search(name):
            continue
        picture, corner = _patch(lump, palette)
        for frame, rotation, flipped in _views(name):
            if name[:4] in _FIGURES and frame in _WALK and rotation != "0":
                view = picture[:, ::-1] if flipped else picture
                left = picture.shape[1] - corner[0] if flipped else corner[0]
                figures.setdefault(name[:4] + rotation, {})[frame] = (view, (left, corner[1]), lump)
        if name[:4] not in _FIGURES and name[4:6] in ("A0", "A1", "B0") and is_one_thing(picture):
            yield Found(name, name[:4].lower(), hashlib.sha256(lump).hexdigest(), [picture], weight=0.4)
    for name, frames in figures.items():
        if sorted(frames) != list(_WALK):
            continue
        views = [frames[frame] for frame in _WALK]
        digest = hashlib.sha256(b"".join(lump for _, _, lump in views)).hexdigest()
        facing = _FACING[name[4]]
        yield Found(name, name[:4].lower(), digest, _aligned([(p, c) for p, c, _ in views]), "person", facing, 0.25)


def _views(name: str) -> list[tuple[str, str, bool]]:
    """Frames and rotations of a lump's name: ``POSSA2A8`` is frame A from 2, and mirrored from 8."""
    pairs = [(name[k], name[k + 1], k == 6) for k in (4, 6) if len(name) >= k + 2]
    return [pair for pair in pairs if pair[1].isdigit()]


def _read_wad(path: Path) -> tuple[UInt8Array, dict[str, bytes]]:
    """Palette, uint8 ``[256, 3]``, and the sprites' lumps by name."""
    data = path.read_bytes()
    magic, count, start = struct.unpack_from("<4sii", data)
    if magic not in (b"IWAD", b"PWAD"):
        raise InputError(f"{path}: expected a WAD file, got one that begins with {magic!r}")
    lumps, sprites, inside = {}, {}, False
    for k in range(count):
        at, size, raw = struct.unpack_from("<ii8s", data, start + 16 * k)
        name = raw.rstrip(b"\0").decode("ascii")
        inside = (inside or name == "S_START") and name != "S_END"
        lumps[name] = data[at : at + size]
        if inside and size:
            sprites[name] = lumps[name]
    return np.frombuffer(lumps["PLAYPAL"][:768], np.uint8).reshape(256, 3), sprites


def _patch(lump: bytes, palette: UInt8Array) -> tuple[UInt8Array, tuple[int, int]]:
    """A picture in Doom's format, uint8 ``[h, w, 4]``, and its anchor: columns of runs of palette indices."""
    width, height, left, top = struct.unpack_from("<hhhh", lump)
    picture = np.zeros((height, width, 4), dtype=np.uint8)
    for column, first in enumerate(struct.unpack_from(f"<{width}i", lump, 8)):
        at = first
        while lump[at] != 255:
            row, length = lump[at], lump[at + 1]
            colors = palette[np.frombuffer(lump, np.uint8, length, at + 3)]
            picture[row : row + length, column, :3], picture[row : row + length, column, 3] = colors, 255
            at += length + 4
    return picture, (left, top)


def _aligned(views: list[tuple[UInt8Array, tuple[int, int]]]) -> list[UInt8Array]:
    """Pictures of one size whose anchors meet."""
    left, top = (max(anchor[k] for _, anchor in views) for k in (0, 1))
    width = left + max(p.shape[1] - a[0] for p, a in views)
    height = top + max(p.shape[0] - a[1] for p, a in views)
    aligned = []
    for picture, anchor in views:
        whole = np.zeros((height, width, 4), dtype=np.uint8)
        y, x = top - anchor[1], left - anchor[0]
        whole[y : y + picture.shape[0], x : x + picture.shape[1]] = picture
        aligned.append(whole)
    return aligned


# --- Own pictures: a folder for each category


def own(folder: Path) -> Iterator[Found]:
    """Own RGBA pictures: FOLDER/CATEGORY/NAME.png, or FOLDER/CATEGORY/NAME/0.png, 1.png, ... for what moves.

    Args:
        folder: the pictures.
    """
    for path in sorted(p for place in folder.iterdir() if place.is_dir() for p in place.iterdir()):
        files = sorted(path.iterdir(), key=lambda p: (len(p.name), p.name)) if path.is_dir() else [path]
        digest = hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()
        pictures = [_rgba(file) for file in files]
        name = path.relative_to(folder).with_suffix("").as_posix()
        yield Found(name, path.parent.name, digest, pictures, "person" if len(files) > 1 else "thing")


def _files(folder: Path, suffix: str) -> list[Path]:
    found = sorted(folder.rglob(f"*{suffix}"))
    if not found:
        raise InputError(f"{folder}: expected {suffix} files below this folder, got none; see recipes/tiny/README.md")
    return found
