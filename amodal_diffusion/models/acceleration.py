"""Options for speed: the UNet's pass compiled or captured as a CUDA graph, memory formats, TF32."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from diffusers import AutoencoderTiny, UNetSpatioTemporalConditionModel
from torch import Tensor, nn

from amodal_diffusion.basics import InputError
from amodal_diffusion.config import Offload
from amodal_diffusion.models.unet import has_one_token_per_frame

_WARM_UP = 3  # passes before a capture, in which cuDNN and cuBLAS choose kernels and take their workspaces


@dataclass(frozen=True)
class Acceleration:
    """Options for speed on a GPU. Each changes results by rounding alone, and each is off by default.

    Attributes:
        compile: compile the UNet's pass with ``torch.compile``. The first pass of each shape takes minutes.
        cuda_graphs: capture the UNet's pass as a CUDA graph for each shape of its inputs. Later passes launch all
            kernels at once, which helps where the host cannot launch them as fast as the GPU runs them.
        channels_last: keep the weights of 2-D convolutions, and so the images between them, with channels innermost.
    """

    compile: bool = False
    cuda_graphs: bool = False
    channels_last: bool = False

    def check(self, device: torch.device, offload: Offload) -> None:
        """Check that the options work on a device and beside each other; call it before a network is loaded.

        Raises:
            InputError: if CUDA graphs are asked for on another device or beside offloading, or compilation beside
                offloading by layer.
        """
        if self.cuda_graphs and device.type != "cuda":
            raise InputError(
                f"--cuda-graphs: needs a CUDA device, and this runs on {device}; leave it out, or give --device cuda"
            )
        if self.cuda_graphs and offload != "none":
            raise InputError(
                f"--cuda-graphs: a graph needs its weights in one place, and --offload {offload} moves them; leave one "
                "of them out"
            )
        if self.compile and offload == "sequential":
            raise InputError(
                "--compile: --offload sequential moves weights within the pass that would be compiled; leave one of "
                "them out, or give --offload model"
            )


def accelerate_networks(
    unet: UNetSpatioTemporalConditionModel, vae: nn.Module, acceleration: Acceleration, device: torch.device
) -> None:
    """Apply the options to the networks of a stage, in place; their classes and the names of their weights stay.

    On a CPU, channels are innermost in a light VAE anyway: it takes a third less time so, and the UNet no less.

    Args:
        unet: with its attention chosen; hooks that move its weights come after this.
        vae: likewise.
        acceleration: has passed :meth:`Acceleration.check`.
        device: where the networks will run.
    """
    if acceleration.channels_last:
        use_channels_last(unet)
    if acceleration.channels_last or (device.type == "cpu" and isinstance(vae, AutoencoderTiny)):
        use_channels_last(vae)
    if acceleration.compile:
        compile_pass(unet)
    if acceleration.cuda_graphs:
        unet.forward = CapturedPass(unet, unet.forward)


def use_channels_last(network: nn.Module) -> None:
    """Lay out the weights of 2-D convolutions with channels innermost, in place; the rest of the network stays.

    ``network.to(memory_format=torch.channels_last)`` fails for networks with 3-D convolutions, whose weights have five
    dimensions.
    """
    for parameter in network.parameters():
        if parameter.ndim == 4:
            parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)


def compile_pass(unet: UNetSpatioTemporalConditionModel, *, backend: str = "inductor") -> None:
    """Have ``torch.compile`` compile the network's pass, in place, when the pass is first run with a shape.

    Args:
        unet: its ``forward`` is replaced.
        backend: of ``torch.compile``.
    """
    eager = unet.forward

    def run(one_token: bool, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - those of the network
        # Compiled code does not notice that hooks came or went. It does notice another value that it branches on, so
        # the branch makes torch compile the pass once with the hooks of `one_token_per_frame` and once without.
        if one_token:
            return eager(*args, **kwargs)
        return eager(*args, **kwargs)

    compiled = torch.compile(run, backend=backend, dynamic=False)

    def forward(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - those of the network
        try:
            return compiled(has_one_token_per_frame(unet), *args, **kwargs)
        except torch._dynamo.exc.TorchDynamoException as error:
            reason = str(getattr(error, "inner_exception", error)).strip().splitlines()[0]
            raise InputError(f"--compile: torch.compile does not work here ({reason}); leave it out") from error

    unet.forward = forward


@dataclass(frozen=True)
class _Graph:
    """A captured pass: it reads its inputs from, and writes its output to, the same memory each time."""

    inputs: dict[str, Tensor]
    output: Tensor
    replay: Callable[[], None]


Capture = Callable[[Callable[[], Tensor], torch.device], tuple[Tensor, Callable[[], None]]]
"""Runs a function on a device and returns its output, and what runs it again into the same output."""


class CapturedPass:
    """A UNet's ``forward`` that is captured once for each shape of its inputs, and replayed from then on.

    Graphs share a memory pool, because no two of them are in use at the same time. The weights must stay where they
    are, and the network must not be in training.

    Args:
        unet: the network, on a CUDA device.
        forward: its pass, eager or compiled.
        capture: captures a pass; CUDA's own by default.
    """

    def __init__(
        self,
        unet: UNetSpatioTemporalConditionModel,
        forward: Callable[..., Any],
        *,
        capture: Capture | None = None,
    ) -> None:
        self._unet, self._forward = unet, forward
        self._capture = capture or CudaCapture()
        self._graphs: dict[Hashable, _Graph] = {}

    def __call__(
        self,
        sample: Tensor,
        timestep: Tensor,
        *,
        encoder_hidden_states: Tensor,
        added_time_ids: Tensor,
        return_dict: bool = False,
    ) -> tuple[Tensor]:
        """The network's pass, with tensors for all arguments.

        Raises:
            ValueError: if a dictionary is asked for: a graph has one output tensor.
        """
        if return_dict:
            raise ValueError("return_dict: expected False for a captured pass, got True")
        given = {
            "sample": sample,
            "timestep": timestep,
            "encoder_hidden_states": encoder_hidden_states,
            "added_time_ids": added_time_ids,
        }
        layout = tuple((value.shape, value.dtype, value.device) for value in given.values())
        key = (has_one_token_per_frame(self._unet), layout)
        if key not in self._graphs:
            self._graphs[key] = self._captured(given)
        graph = self._graphs[key]
        for name, value in given.items():
            graph.inputs[name].copy_(value)
        graph.replay()
        return (graph.output.clone(),)  # the next replay overwrites it

    def _captured(self, given: dict[str, Tensor]) -> _Graph:
        inputs = {name: value.clone() for name, value in given.items()}
        output, replay = self._capture(lambda: self._forward(**inputs, return_dict=False)[0], given["sample"].device)
        return _Graph(inputs, output, replay)


class CudaCapture:
    """Captures functions as CUDA graphs, all on one stream of a device and in one memory pool."""

    def __init__(self) -> None:
        """Open the memory pool."""
        self._pool = torch.cuda.graph_pool_handle()
        self._stream: torch.cuda.Stream | None = None

    def __call__(self, work: Callable[[], Tensor], device: torch.device) -> tuple[Tensor, Callable[[], None]]:
        """Capture a function that only launches kernels on a device.

        Returns:
            its output, and what runs it again into the same output.
        """
        with torch.cuda.device(device):
            # Warmed up on the stream of the capture: libraries keep handles and workspaces for each stream.
            stream = self._stream = self._stream or torch.cuda.Stream()
            stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(stream):
                for _ in range(_WARM_UP):
                    work()
            graph = torch.cuda.CUDAGraph()
            # Other threads of the process may allocate on the device in the meantime.
            with torch.cuda.graph(graph, pool=self._pool, stream=stream, capture_error_mode="thread_local"):
                output = work()
            torch.cuda.current_stream().wait_stream(stream)
        return output, graph.replay


@contextmanager
def tf32_beside(network: nn.Module, device: torch.device) -> Iterator[None]:
    """Allow TF32 in float32 matrix products while a network of half precision is sampled on a CUDA device.

    It is for what stays float32 beside that network, such as a VAE with ``force_upcast`` beside a float16 UNet. With a
    float32 network, products keep the precision that the caller has chosen. The setting is torch's global one; it is
    put back at the end.

    Args:
        network: decides by the dtype of its first parameter.
        device: where the work runs.
    """
    matmul = torch.backends.cuda.matmul
    if device.type != "cuda" or next(network.parameters()).dtype == torch.float32:
        yield
        return
    before = matmul.allow_tf32
    matmul.allow_tf32 = True
    try:
        yield
    finally:
        matmul.allow_tf32 = before
