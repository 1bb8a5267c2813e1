"""Options for speed: the same results, one clear error where an option cannot work, nothing left behind."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from diffusers import UNetSpatioTemporalConditionModel
from torch import Tensor, nn

from amodal_diffusion.basics import InputError
from amodal_diffusion.config import Offload
from amodal_diffusion.models.acceleration import (
    Acceleration,
    CapturedPass,
    CudaCapture,
    accelerate_networks,
    compile_pass,
    tf32_beside,
    use_channels_last,
)
from amodal_diffusion.models.unet import one_token_per_frame
from tests.factories import TOKEN_WIDTH, tiny_distilled_vae, tiny_unet, tiny_vae

CUDA = torch.device("cuda")


def _pass(unet: UNetSpatioTemporalConditionModel, *, seed: int = 0, frames: int = 3) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        output: Tensor = unet(
            torch.randn(1, frames, 12, 4, 8, generator=generator),
            torch.rand((), generator=generator),
            encoder_hidden_states=torch.randn(1, frames, TOKEN_WIDTH, generator=generator),
            added_time_ids=torch.tensor([[7.0, 127.0, 0.02]]),
            return_dict=False,
        )[0]
    return output


def _capture(work: Callable[[], Tensor], _: torch.device) -> tuple[Tensor, Callable[[], None]]:
    """What a CUDA graph does, without CUDA: a replay reads the same inputs and writes the same output."""
    output = work()

    def replay() -> None:
        output.copy_(work())

    return output, replay


def test_a_captured_pass_replays_with_new_inputs() -> None:
    unet = tiny_unet()
    wanted = [_pass(unet, seed=seed) for seed in (0, 1)]
    captured: list[None] = []

    def counted(work: Callable[[], Tensor], device: torch.device) -> tuple[Tensor, Callable[[], None]]:
        captured.append(None)
        return _capture(work, device)

    unet.forward = CapturedPass(unet, unet.forward, capture=counted)
    found = [_pass(unet, seed=seed) for seed in (0, 1)]
    assert all(torch.equal(one, other) for one, other in zip(found, wanted, strict=True))
    assert len(captured) == 1
    _pass(unet, frames=2)
    assert len(captured) == 2


def test_a_capture_is_warmed_up_on_its_own_stream_and_shares_its_pool(monkeypatch: pytest.MonkeyPatch) -> None:
    events: list[str] = []

    class Stream:
        def __init__(self, name: str = "side") -> None:
            events.append(f"stream {name}")
            self.name = name

        def wait_stream(self, other: Stream) -> None:
            events.append(f"{self.name} waits for {other.name}")

    class Graph:
        def replay(self) -> None:
            events.append("replay")

    @contextmanager
    def within(*args: Any, pool: str = "", stream: Stream | None = None, **_: Any) -> Iterator[None]:
        where = f"capture on {stream.name} in {pool}" if stream else f"on {getattr(args[0], 'name', args[0])}"
        events.append(where)
        yield

    main = Stream("main")
    for name, fake in {
        "graph_pool_handle": lambda: "pool", "Stream": Stream, "current_stream": lambda: main, "stream": within,
        "device": within, "CUDAGraph": Graph, "graph": within,
    }.items():  # fmt: skip
        monkeypatch.setattr(torch.cuda, name, fake)
    capture = CudaCapture()
    events.clear()

    def work() -> Tensor:
        events.append("pass")
        return torch.zeros(1)

    output, replay = capture(work, torch.device("cuda:1"))
    assert torch.equal(output, torch.zeros(1))
    replay()
    begin = ["side waits for main", "on side", "pass", "pass", "pass", "capture on side in pool", "pass"]
    assert events == ["on cuda:1", "stream side", *begin, "main waits for side", "replay"]
    events.clear()
    capture(work, torch.device("cuda:1"))
    assert events == ["on cuda:1", *begin, "main waits for side"]  # the same stream and pool


def _captured(unet: UNetSpatioTemporalConditionModel) -> None:
    unet.forward = CapturedPass(unet, unet.forward, capture=_capture)


def _compiled(unet: UNetSpatioTemporalConditionModel) -> None:
    compile_pass(unet, backend="eager")


@pytest.mark.parametrize("change", [_captured, pytest.param(_compiled, marks=pytest.mark.slow)])
def test_other_tokens_are_another_pass(change: Callable[[UNetSpatioTemporalConditionModel], None]) -> None:
    unet, other = tiny_unet(), tiny_unet()
    change(other)
    every, own = _pass(unet), None
    with one_token_per_frame(unet):
        own = _pass(unet)
    assert not torch.equal(own, every)
    torch.testing.assert_close(_pass(other), every)
    with one_token_per_frame(other):
        torch.testing.assert_close(_pass(other), own)
    torch.testing.assert_close(_pass(other), every)


def test_a_captured_pass_has_one_output() -> None:
    unet = tiny_unet()
    _captured(unet)
    with pytest.raises(ValueError, match="return_dict: expected False"):
        unet.forward(
            torch.zeros(1), torch.zeros(1), encoder_hidden_states=torch.zeros(1), added_time_ids=torch.zeros(1),
            return_dict=True,
        )  # fmt: skip


@pytest.mark.slow
def test_a_compiler_that_does_not_work_is_one_line() -> None:
    def broken(*_: Any) -> Any:
        raise RuntimeError("no compiler here")

    unet = tiny_unet()
    torch._dynamo.reset()
    compile_pass(unet, backend=broken)  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"^--compile: torch.compile does not work here \(no compiler here\); leave"):
        _pass(unet)


def test_channels_last_changes_nothing_but_the_layout() -> None:
    unet, vae = tiny_unet(), tiny_vae()
    assert any(value.ndim == 5 for value in unet.parameters())  # which to(memory_format=...) refuses
    wanted, names = _pass(unet), list(unet.state_dict())
    accelerate_networks(unet, vae, Acceleration(channels_last=True), CUDA)
    assert unet.conv_in.weight.is_contiguous(memory_format=torch.channels_last)
    assert vae.encoder.conv_in.weight.is_contiguous(memory_format=torch.channels_last)
    assert list(unet.state_dict()) == names
    torch.testing.assert_close(_pass(unet), wanted)


@pytest.mark.parametrize(("device", "laid_out"), [("cpu", True), ("cuda", False)])
def test_a_light_vae_is_channels_last_on_a_cpu(device: str, laid_out: bool) -> None:
    unet, vae, light = tiny_unet(), tiny_vae(), tiny_distilled_vae()
    for each in (vae, light):
        accelerate_networks(unet, each, Acceleration(), torch.device(device))
    assert light.decoder.layers[0].weight.is_contiguous(memory_format=torch.channels_last) == laid_out
    assert not vae.encoder.conv_in.weight.is_contiguous(memory_format=torch.channels_last)
    assert not unet.conv_in.weight.is_contiguous(memory_format=torch.channels_last)


def test_channels_last_of_a_network_without_convolutions_is_the_network() -> None:
    network = nn.Linear(2, 2)
    before = network.weight.data_ptr()
    use_channels_last(network)
    assert network.weight.data_ptr() == before


@pytest.mark.parametrize(
    ("acceleration", "device", "offload", "message"),
    [
        (Acceleration(cuda_graphs=True), torch.device("cpu"), "none", "--cuda-graphs: needs a CUDA device, .* on cpu"),
        (Acceleration(cuda_graphs=True), CUDA, "model", "--cuda-graphs: .* --offload model moves them"),
        (Acceleration(compile=True), CUDA, "sequential", "--compile: --offload sequential .* or give --offload model"),
    ],
)
def test_what_cannot_work_is_refused(
    acceleration: Acceleration, device: torch.device, offload: Offload, message: str
) -> None:
    with pytest.raises(InputError, match=message) as error:
        acceleration.check(device, offload)
    assert "\n" not in str(error.value)


def test_what_works_is_not_refused() -> None:
    Acceleration(compile=True, cuda_graphs=True, channels_last=True).check(CUDA, "none")
    Acceleration(compile=True).check(CUDA, "model")
    Acceleration(compile=True, channels_last=True).check(torch.device("cpu"), "none")


@pytest.mark.parametrize(
    ("device", "dtype", "allowed"),
    [("cuda", torch.float16, True), ("cuda", torch.float32, False), ("cpu", torch.bfloat16, False)],
)
def test_tf32_is_for_what_stays_float32_beside_half_precision(device: str, dtype: torch.dtype, allowed: bool) -> None:
    before = torch.backends.cuda.matmul.allow_tf32
    with tf32_beside(nn.Linear(1, 1, dtype=dtype), torch.device(device)):
        assert torch.backends.cuda.matmul.allow_tf32 == (allowed or before)
    assert torch.backends.cuda.matmul.allow_tf32 == before
