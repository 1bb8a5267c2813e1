"""Every way in which a NumPy file is damaged is one error of one line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from amodal_diffusion.basics import InputError
from amodal_diffusion.io.depth_files import open_depth
from amodal_diffusion.io.mask_files import read_masks
from amodal_diffusion.io.numpy_files import load_arrays

ARRAY = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)


def replaced(old: bytes, new: bytes) -> Callable[[bytes], bytes]:
    def damage(data: bytes) -> bytes:
        assert old in data
        return data.replace(old, new, 1)

    return damage


DAMAGE: dict[str, tuple[str, Callable[[bytes], bytes]]] = {
    "cut off": ("a.npz", lambda data: data[:-30]),
    "header of a member": ("a.npz", replaced(b"PK\x03\x04", b"PK\x03\x05")),
    "checksum of a member": ("a.npz", replaced(bytes(range(8, 20)), bytes(12))),
    "empty": ("a.npy", lambda _: b""),
    "bracket without an end": ("a.npy", replaced(b"), }", b"(, }")),
    "no Python literal": ("a.npy", replaced(b"'shape'", b"'shape ")),
    "more than the file has": ("a.npy", replaced(b"(2, 3, 4), }", b"(2, 3, 9**9)")),
    "another type": ("a.npy", replaced(b"|u1", b"|z1")),
    "pickled objects": ("a.npy", replaced(b"|u1", b"|O1")),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_damage_is_one_line(tmp_path: Path, kind: str) -> None:
    name, damage = DAMAGE[kind]
    path = tmp_path / name
    if name.endswith("z"):
        np.savez(path, one=ARRAY)
    else:
        np.save(path, ARRAY)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(ValueError, match=r"^.+$") as error:
        load_arrays(path)
    assert str(error.value)
    with pytest.raises(InputError, match=r"^masks: .*: cannot be read as a NumPy file"):
        read_masks(path)
    with pytest.raises(InputError, match=r"^depth: .*: expected"):
        open_depth(path)


def test_arrays_that_claim_more_than_the_memory_holds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_memory(*_: object, **__: object) -> None:
        raise MemoryError

    np.save(tmp_path / "a.npy", ARRAY)
    monkeypatch.setattr(np, "load", no_memory)
    with pytest.raises(ValueError, match="its arrays take more memory than there is"):
        load_arrays(tmp_path / "a.npy")


def test_arrays_come_back(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", ARRAY)
    np.savez_compressed(tmp_path / "a.npz", one=ARRAY, two=ARRAY + 1)
    np.testing.assert_array_equal(load_arrays(tmp_path / "a.npy"), ARRAY)
    both = load_arrays(tmp_path / "a.npz")
    assert isinstance(both, dict)
    assert list(both) == ["one", "two"]
    np.testing.assert_array_equal(both["two"], ARRAY + 1)
