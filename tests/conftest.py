"""What all tests share: one thread, as networks of these sizes are slower with more; imports are no garbage."""

from __future__ import annotations

import gc

import pytest
import torch

from tests.disk import Disk

torch.set_num_threads(1)


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    """What the disk is told from now on, on Linux."""
    found = Disk()
    found.watch(monkeypatch)
    return found


@pytest.hookimpl(trylast=True)
def pytest_collection_finish() -> None:
    """Keep what the imports made out of the garbage collector's rounds; it is millions of objects."""
    gc.collect()
    gc.freeze()
