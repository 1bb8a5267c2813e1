"""The cache's storage: whole or not at all, and nothing taken for what it is not."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from amodal_diffusion.data import cache
from amodal_diffusion.data.cache import Entry, TensorCache, content_key, file_state

VALUE = torch.arange(6, dtype=torch.float32).reshape(2, 3)


def entry(value: Tensor = VALUE, content: bytes = b"frame") -> Entry:
    return Entry(content_key("depth", {"network": "a"}, content), lambda: value)


def refuse() -> Tensor:
    raise AssertionError("made again")


def test_an_entry_is_made_once_and_read_as_it_was(tmp_path: Path) -> None:
    storage = TensorCache(tmp_path)
    assert torch.equal(storage.get(entry()), VALUE)
    assert storage.state(entry().key) == "missing"  # taking writes nothing
    assert storage.fill(entry())
    assert not storage.fill(Entry(entry().key, refuse))
    assert torch.equal(storage.get(Entry(entry().key, refuse)), VALUE)
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == [f"{entry().key}.safetensors"]
    assert storage.disk_use() == storage.path(entry().key).stat().st_size


def test_the_key_follows_kind_makers_and_content(monkeypatch: pytest.MonkeyPatch) -> None:
    made_by = {"network": "a", "precision": "no"}
    keys = [
        content_key("latents", made_by, VALUE),
        content_key("tokens", made_by, VALUE),
        content_key("latents", {**made_by, "network": "b"}, VALUE),
        content_key("latents", {**made_by, "precision": "bf16"}, VALUE),
        content_key("latents", made_by, VALUE + torch.tensor([[0, 0, 0], [0, 0, 1e-6]])),
        content_key("latents", made_by, VALUE.reshape(3, 2)),
        content_key("latents", made_by, VALUE.half()),
        content_key("latents", made_by, b"ab", b"c"),
        content_key("latents", made_by, b"a", b"bc"),
    ]
    assert len(set(keys)) == len(keys)
    assert content_key("latents", dict(reversed(made_by.items())), VALUE.clone()) == keys[0]
    monkeypatch.setattr(cache, "FORMAT", cache.FORMAT + 1)
    assert content_key("latents", made_by, VALUE) != keys[0]


def test_a_file_is_known_without_being_read_and_noticed_when_it_changes(tmp_path: Path) -> None:
    path = tmp_path / "frame.png"
    path.write_bytes(b"ab")
    first, changed = file_state(path), path.stat().st_mtime_ns
    path.chmod(0)
    assert file_state(path) == first
    path.chmod(0o600)
    path.write_bytes(b"ba")
    os.utime(path, ns=(changed, changed + 1))  # of the same size, in another moment
    states = [first, file_state(path)]
    path.write_bytes(b"abc")
    os.utime(path, ns=(changed, changed))
    states.append(file_state(path))
    (tmp_path / "other.png").write_bytes(b"ab")
    os.utime(tmp_path / "other.png", ns=(changed, changed))
    states.append(file_state(tmp_path / "other.png"))
    assert len(set(states)) == 4
    with pytest.raises(FileNotFoundError):
        file_state(tmp_path / "none.png")


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-3])


def _flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("damage", [_cut, _flip, lambda path: path.write_bytes(b"")])
def test_a_damaged_entry_counts_as_none_and_is_written_again(tmp_path: Path, damage: Callable[[Path], object]) -> None:
    storage = TensorCache(tmp_path)
    storage.fill(entry())
    damage(storage.path(entry().key))
    assert storage.state(entry().key) == "damaged"
    assert torch.equal(storage.get(entry()), VALUE)
    assert storage.fill(entry())
    assert storage.state(entry().key) == "intact"


def test_a_write_that_fails_leaves_nothing(tmp_path: Path) -> None:
    storage = TensorCache(tmp_path)
    (tmp_path / entry().key[:2]).write_text("a file where a folder must be")
    with pytest.raises(OSError, match="exists"):
        storage.fill(entry())
    assert storage.state(entry().key) == "missing"
