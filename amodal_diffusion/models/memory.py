"""Memory: what is free on a device, what computations and networks take, and how many frames fit."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

import torch
from diffusers import AutoencoderKLTemporalDecoder, AutoencoderTiny
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter

GIB = 2**30
MOST_FRAMES = 32
"""Frames that a frame-wise network sees at once where memory does not limit them; more gain no speed."""

_LIVE_FEATURE_MAPS = 5  # of the widest level, at the peak of an encoder or decoder: input, residual, result, temporary
_OUT_OF_MEMORY = ("CUDA out of memory", "CUDA error: out of memory", "CUBLAS_STATUS_ALLOC_FAILED",
                  "CUDNN_STATUS_ALLOC_FAILED", "MPS backend out of memory")  # fmt: skip
_SHARE = 0.5  # of free memory that one chunk may take: the rest is for workspaces and fragmentation


def free_memory(device: torch.device) -> int | None:
    """Bytes that a process can still allocate on a device; None on the CPU, where memory is not what limits chunks.

    Args:
        device: where networks compute.
    """
    if device.type == "cuda":
        unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)  # torch's own, to be reused
        return torch.cuda.mem_get_info(device)[0] + unused
    if device.type == "mps":
        return torch.mps.recommended_max_memory() - torch.mps.current_allocated_memory()
    return None


def is_out_of_memory(error: BaseException | None) -> bool:
    """Whether an error says that the memory of a device ran out; libraries below torch have errors of their own."""
    if isinstance(error, torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in _OUT_OF_MEMORY)


def frames_that_fit(
    vae: AutoencoderKLTemporalDecoder | AutoencoderTiny, *, height: int, width: int, device: torch.device
) -> int:
    """Frames that an autoencoder should encode or decode at once on a device, 1 to :data:`MOST_FRAMES`.

    Args:
        vae: gives the width of its first level, which is that of full resolution, and its dtype.
        height: of a frame in pixels.
        width: of a frame in pixels.
        device: where the autoencoder computes.
    """
    free = free_memory(device)
    if free is None:
        return MOST_FRAMES
    return max(1, min(MOST_FRAMES, int(_SHARE * free) // frame_bytes(vae, height=height, width=width)))


def frame_bytes(vae: AutoencoderKLTemporalDecoder | AutoencoderTiny, *, height: int, width: int) -> int:
    """About the bytes that encoding a frame takes: the feature maps that are live at once at full resolution.

    Args:
        vae: as for :func:`frames_that_fit`.
        height: of a frame in pixels.
        width: of a frame in pixels.
    """
    network: Any = vae  # of diffusers, which types neither its config nor its dtype
    return int(_LIVE_FEATURE_MAPS * network.config.block_out_channels[0] * height * width * network.dtype.itemsize)


def bytes_of(network: nn.Module) -> int:
    """Bytes of a network's parameters and buffers."""
    return sum(value.numel() * value.element_size() for value in network.state_dict().values())


def layer_bytes(network: nn.Module) -> int:
    """Bytes of the parameters of a network's largest layer, which ``sequential`` offload keeps on the device."""
    sizes = (
        sum(value.numel() * value.element_size() for value in layer.parameters(recurse=False))
        for layer in network.modules()
    )
    return max(sizes)


def peak_bytes(work: Callable[[], object], *, unfolds: bool = False) -> int:
    """Most bytes that the tensors which a computation allocates take at once.

    On fake tensors (``torch._subclasses.fake_tensor``), which have shapes but no data, this costs no memory.

    Args:
        work: the computation; what exists before is not counted.
        unfolds: whether 3-D convolutions write their input out once for each weight of the kernel before they multiply,
            as in float32 on a CPU.
    """
    with _LiveBytes(unfolds=unfolds) as live:
        work()
    return live.most


class _LiveBytes(TorchDispatchMode):
    """Tracks the bytes of all storages that operations allocate, until they are freed.

    A storage that an operation is given, such as a weight's, existed before: views of it allocate nothing.

    Attributes:
        most: peak number of bytes.
    """

    def __init__(self, *, unfolds: bool) -> None:
        super().__init__()
        self._unfolds = unfolds
        self.most = 0
        self._now = 0
        self._seen: set[int] = set()

    def __torch_dispatch__(
        self,
        func: Callable[..., Any],
        types: tuple[type, ...],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:  # noqa: ANN401 - any operation's result
        for value in tree_iter((args, kwargs)):
            if isinstance(value, Tensor):
                self._note(value.untyped_storage(), allocated=False)
        result = func(*args, **(kwargs or {}))
        for value in tree_iter(result):
            if isinstance(value, Tensor):
                self._note(value.untyped_storage(), allocated=True)
        if self._unfolds and func is torch.ops.aten.convolution.default and args[0].ndim == 5:
            weights = args[1]  # [out, in, depth, height, width]
            self.most = max(self.most, self._now + result.nbytes // weights.shape[0] * weights[0].numel())
        return result

    def _note(self, storage: torch.UntypedStorage, *, allocated: bool) -> None:
        key = storage._cdata
        if key not in self._seen:
            size = storage.nbytes() if allocated else 0
            self._seen.add(key)
            self._now += size
            self.most = max(self.most, self._now)
            weakref.finalize(storage, self._forget, key, size)

    def _forget(self, key: int, size: int) -> None:
        self._seen.discard(key)
        self._now -= size


def format_bytes(size: int) -> str:
    """A number of bytes in GiB or MiB, ten characters wide."""
    return f"{size / GIB:8.2f} GiB" if abs(size) >= GIB / 100 else f"{size / 2**20:8.2f} MiB"
