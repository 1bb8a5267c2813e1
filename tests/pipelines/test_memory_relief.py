"""When memory runs out: objects and decode chunk are halved once each, with a notice, in both stages."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from amodal_diffusion.basics import STAGES
from amodal_diffusion.models.latents import decode_latents
from amodal_diffusion.pipelines import memory_relief
from amodal_diffusion.pipelines.completer import AmodalCompleter, ObjectStream
from amodal_diffusion.pipelines.memory_relief import MemoryRelief
from amodal_diffusion.pipelines.preprocessing import clip_frames
from tests.factories import moving_square, tiny_completer_folder, tiny_vae

SETTINGS: dict[str, Any] = {"num_inference_steps": 1, "height": 16, "width": 32}


def test_objects_are_halved_once(caplog: pytest.LogCaptureFixture) -> None:
    def work(relief: MemoryRelief, items: list[int], *, most: int = 2) -> tuple[list[int], list[int]]:
        """Results, and how many items each attempt took, where memory is enough for `most`."""
        results, calls = [], []
        for attempt in relief.parts(items):
            with attempt:
                calls.append(len(attempt.items))
                if len(attempt.items) > most:
                    raise torch.OutOfMemoryError
                results += [10 * item for item in attempt.items]
        return results, calls

    relief = MemoryRelief()
    with caplog.at_level(logging.WARNING):
        assert work(relief, [1, 2, 3, 4, 5]) == ([10, 20, 30, 40, 50], [5, 2, 2, 1])
    assert [record.getMessage().partition(";")[0] for record in caplog.records] == [
        "out of memory with 5 objects in one network call: now 2"
    ]
    assert work(relief, [1, 2, 3]) == ([10, 20, 30], [2, 1])  # it stays halved
    with pytest.raises(torch.OutOfMemoryError):
        work(relief, [1, 2], most=1)
    with pytest.raises(torch.OutOfMemoryError):
        work(MemoryRelief(), [1], most=0)


@pytest.mark.parametrize(
    ("error", "halves"),
    [
        (torch.OutOfMemoryError("tried to allocate 9 GiB"), True),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"), True),
        (RuntimeError("CUDA error: an illegal memory access was encountered"), False),
        (ValueError("CUDA out of memory"), False),
    ],
)
def test_what_counts_as_too_little_memory(error: Exception, halves: bool) -> None:
    taken: list[int] = []
    relief = MemoryRelief()

    def work() -> None:
        for attempt in relief.parts([1, 2]):
            with attempt:
                taken.append(len(attempt.items))
                if len(taken) == 1:
                    raise error

    if halves:
        work()
        assert taken == [2, 1, 1]
    else:
        with pytest.raises(type(error)):
            work()


def test_the_next_clip_begins_with_all_that_is_asked_for() -> None:
    relief = MemoryRelief()
    for attempt in relief.parts([1, 2]):
        with attempt:
            if len(attempt.items) == 2:
                raise torch.OutOfMemoryError
    relief.reset()
    assert [len(attempt.items) for attempt in relief.parts([1, 2])] == [2]
    assert relief.decode_chunk_size is None


@torch.no_grad()
def test_the_decode_chunk_is_halved_once(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    vae, latents, relief = tiny_vae(), torch.rand(1, 4, 4, 8, 16), MemoryRelief()
    wanted = decode_latents(vae, latents, decode_chunk_size=2)
    limit_decoding(monkeypatch, most=2)
    with caplog.at_level(logging.WARNING):
        assert torch.equal(relief.decode(vae, latents, decode_chunk_size=8), wanted)  # 8 of 4 frames are 4
    assert "out of memory while 4 frames were decoded together: now 2" in caplog.text
    assert "--decode-chunk-size 2 does so" in caplog.text
    assert torch.equal(relief.decode(vae, latents, decode_chunk_size=8), wanted)
    assert len(caplog.records) == 1
    limit_decoding(monkeypatch, most=1)
    with pytest.raises(torch.OutOfMemoryError):
        relief.decode(vae, latents, decode_chunk_size=8)


def limit_decoding(monkeypatch: pytest.MonkeyPatch, *, most: int) -> None:
    decode = decode_latents

    def limited(vae: torch.nn.Module, latents: Tensor, *, decode_chunk_size: int) -> Tensor:
        if decode_chunk_size > most:
            raise torch.OutOfMemoryError
        return decode(vae, latents, decode_chunk_size=decode_chunk_size)

    monkeypatch.setattr(memory_relief, "decode_latents", limited)


def test_both_stages_go_on_with_fewer_objects(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = tiny_completer_folder(tmp_path / "model")
    clips = [moving_square(3, seed=seed) for seed in range(2)]
    results = []
    for short_of_memory in (False, True):
        completer = AmodalCompleter.from_pretrained(folder, device="cpu")
        for pipeline in completer._pipelines.values() if short_of_memory else ():
            pipeline.unet.register_forward_pre_hook(fail_once())
        streams = zip(*(clip_frames(clip, None, None) for clip in clips), strict=True)
        objects = [ObjectStream(), ObjectStream()]
        with caplog.at_level(logging.WARNING):
            results.append(list(completer.stream_objects(streams, objects, completer.config(**SETTINGS))))
    for (place, wanted), (other, found) in zip(*results, strict=True):
        assert place == other
        assert wanted.rgba is not None
        assert found.rgba is not None
        assert np.array_equal(found.rgba, wanted.rgba)  # the noise is drawn anew
    assert caplog.text.count("out of memory with 2 objects in one network call: now 1") == len(STAGES)


def fail_once() -> Callable[..., None]:
    """A hook that runs out of memory once: at the second object of the first call of its pipeline."""
    calls = 0

    def hook(*_: object) -> None:
        nonlocal calls
        calls += 1
        if calls == 2:
            raise torch.OutOfMemoryError

    return hook
