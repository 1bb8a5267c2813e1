"""Masks that do not fit: one is missing, of another size, empty, not a picture, or says something else in JSON."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

Rng = np.random.Generator


def spoil_masks(folder: Path, pattern: str, rng: Rng) -> None:
    """Spoil one of the mask files of a pattern, or the file that names masks."""
    files = sorted(folder.glob(pattern))
    path = files[int(rng.integers(len(files)))]
    if path.suffix == ".json":
        path.write_text(json.dumps(_spoil_json(json.loads(path.read_text()), rng)))
        return
    ways: tuple[Callable[[Path, Rng], object], ...] = (
        _remove, _add, _resize, _empty, _invert, _gray, _transparent, _text, _number,
    )  # fmt: skip
    ways[int(rng.integers(len(ways)))](path, rng)


def _remove(path: Path, _: Rng) -> None:
    path.unlink()


def _add(path: Path, _: Rng) -> None:
    shutil.copyfile(path, path.with_name("99999.png"))


def _resize(path: Path, rng: Rng) -> None:
    with Image.open(path) as picture:
        other = picture.resize((int(rng.integers(1, 100)), int(rng.integers(1, 100))))
    other.save(path)


def _empty(path: Path, _: Rng) -> None:
    for mask in path.parent.iterdir():
        with Image.open(mask) as picture:
            black = Image.new("L", picture.size)
        black.save(mask)


def _invert(path: Path, _: Rng) -> None:
    values = np.asarray(Image.open(path).convert("L"))
    Image.fromarray(255 - values).save(path)


def _gray(path: Path, rng: Rng) -> None:
    values = np.asarray(Image.open(path).convert("L")).astype(float)
    noise = rng.normal(0, 20, values.shape)
    Image.fromarray(np.clip(values + noise, 0, 255).astype(np.uint8)).save(path)


def _transparent(path: Path, _: Rng) -> None:
    values = np.asarray(Image.open(path).convert("L"))
    Image.fromarray(np.dstack([values] * 4)).save(path)


def _text(path: Path, _: Rng) -> None:
    path.write_text("this is no picture")


def _number(path: Path, rng: Rng) -> None:
    path.rename(path.with_name(f"{int(rng.integers(100, 1000))}.png"))


def _spoil_json(content: Any, rng: Rng) -> Any:  # noqa: ANN401 - JSON
    """Take away or replace one value, anywhere in it."""
    places = list(_places(content))
    holder, key = places[int(rng.integers(len(places)))]
    values = (None, -1, 10**9, "text", [], {}, 1.5)
    if rng.random() < 0.3:
        del holder[key]
    else:
        holder[key] = values[int(rng.integers(len(values)))]
    return content


def _places(content: Any) -> Any:  # noqa: ANN401 - JSON
    items = content.items() if isinstance(content, dict) else enumerate(content) if isinstance(content, list) else ()
    for key, value in list(items):
        yield content, key
        yield from _places(value)
