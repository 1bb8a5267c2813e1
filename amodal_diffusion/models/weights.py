"""Read a network's weights from safetensors files only, and fit them strictly."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor, nn

from amodal_diffusion.basics import InputError
from amodal_diffusion.io.json_files import load_json
from amodal_diffusion.models.libraries import without_bars

logger = logging.getLogger(__name__)

PICKLE_SUFFIXES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")
_KEYS_SHOWN = 8


def read_json(path: Path) -> dict[str, object]:
    """Read a JSON object from a file.

    Raises:
        InputError: if the file is missing, is not JSON, or holds something else than an object.
    """
    try:
        value = load_json(path)
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file; expected a model's settings there") from error
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error
    except ValueError as error:
        raise InputError(f"{path}: not valid JSON ({error}); the checkpoint is damaged") from error
    if not isinstance(value, dict):
        raise InputError(f"{path}: expected a JSON object, got {type(value).__name__}")
    return value


@contextmanager
def building(source: Path, cls: type) -> Iterator[None]:
    """Say in one line that a network cannot be made of a checkpoint's files; a damaged setting fails anywhere.

    Bars of the libraries are hidden, as the files are on disk already.

    Args:
        source: folder of the network.
        cls: the network's class.

    Raises:
        InputError: names both, and what the library says.
    """
    try:
        with without_bars():
            yield
    except (InputError, MemoryError):
        raise
    except Exception as error:
        reason = next(iter(str(error).strip().splitlines()), "") or type(error).__name__
        raise InputError(f"{source}: cannot be loaded as {cls.__name__}: {reason:.300}") from error


def find_variant(folder: Path, stem: str) -> str | None:
    """Choose which variant of the weights in a folder to read: the plain one if it is there, else ``fp16``.

    Args:
        folder: a part of a checkpoint, such as ``unet``.
        stem: file name without suffix, ``diffusion_pytorch_model`` (diffusers) or ``model`` (transformers).

    Returns:
        None for ``stem.safetensors`` (or its index of shards), ``"fp16"`` for ``stem.fp16.safetensors``.

    Raises:
        InputError: if neither is there; lists what was looked for and what was found. Or if an index of shards names
            something else than safetensors files beside it.
    """
    for variant in (None, "fp16"):
        if (folder / weight_file(stem, variant)).is_file():
            return variant
        if (folder / index_file(stem, variant)).is_file():
            _shards(folder, stem, variant)  # other libraries would read pickles that the index names
            return variant
    found = sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []
    wanted = f"{weight_file(stem, None)} or {weight_file(stem, 'fp16')}"
    pickles = [name for name in found if name.endswith(PICKLE_SUFFIXES)]
    if pickles:
        raise InputError(
            f"{folder}: expected {wanted}, found {', '.join(pickles)}; pickle files can run code and are never "
            "loaded: save the weights as safetensors"
        )
    raise InputError(f"{folder}: expected {wanted}, found {', '.join(found) or 'nothing'}")


def weight_file(stem: str, variant: str | None) -> str:
    """Name of a single weight file."""
    return f"{stem}.{variant}.safetensors" if variant else f"{stem}.safetensors"


def index_file(stem: str, variant: str | None) -> str:
    """Name of the index of a sharded weight file."""
    return f"{stem}.safetensors.index.{variant}.json" if variant else f"{stem}.safetensors.index.json"


def read_state_dict(folder: Path, stem: str) -> dict[str, Tensor]:
    """Read all weights of one network, whole or in shards.

    Args:
        folder: a part of a checkpoint, such as ``unet``.
        stem: as in :func:`find_variant`.

    Returns:
        the tensors by name, on the CPU, in the dtype of the file.

    Raises:
        InputError: if a file is missing or is not a safetensors file.
    """
    state: dict[str, Tensor] = {}
    for path in weight_files(folder, stem):
        state |= _read_file(path)
    return state


def weight_files(folder: Path, stem: str) -> list[Path]:
    """The files that hold the weights of one network: one, or its shards.

    Args:
        folder: a part of a checkpoint, such as ``unet``.
        stem: as in :func:`find_variant`.

    Raises:
        InputError: if a file is missing.
    """
    variant = find_variant(folder, stem)
    single = folder / weight_file(stem, variant)
    if single.is_file():
        return [single]
    shards = [folder / name for name in _shards(folder, stem, variant)]
    for path in shards:
        if not path.is_file():
            raise InputError(f"{path}: missing, though the index of shards names it; copy it there")
    return shards


def stored_shape(folder: Path, stem: str, key: str) -> list[int] | None:
    """Shape of a tensor in a network's weight files, without reading it; None if it is in none of them.

    Args:
        folder: a part of a checkpoint, such as ``unet``.
        stem: as in :func:`find_variant`.
        key: name of the tensor.

    Raises:
        InputError: if a file is missing or is not a safetensors file.
    """
    for path in weight_files(folder, stem):
        try:
            with safe_open(path, framework="pt") as file:
                if key in file.keys():  # noqa: SIM118 - it is no mapping
                    return list(file.get_slice(key).get_shape())
        except (SafetensorError, OSError) as error:
            raise InputError(f"{path}: not a safetensors file ({error}); download it again") from error
    return None


def _shards(folder: Path, stem: str, variant: str | None) -> list[str]:
    """Names of the files that an index of shards names.

    Raises:
        InputError: if the index is damaged, or names something else than a safetensors file beside it.
    """
    index = folder / index_file(stem, variant)
    weight_map = read_json(index).get("weight_map")
    if not isinstance(weight_map, dict):
        raise InputError(f"{index}: has no weight_map; the checkpoint is damaged")
    names = sorted(set(map(str, weight_map.values())))
    for name in names:
        if Path(name).name != name or not name.endswith(".safetensors"):
            raise InputError(f"{index}: expected names of safetensors files beside it, got {name!r:.60}")
    return names


def load_strictly(network: torch.nn.Module, state: Mapping[str, Tensor], *, source: Path) -> None:
    """Put weights into a network whose every parameter must be there, in its shape, and nothing else.

    Args:
        network: takes the tensors over as they are (its own may be on the meta device).
        state: tensors by name.
        source: named in the error.

    Raises:
        InputError: lists missing, unexpected and wrongly shaped keys.
    """
    own = network.state_dict()
    shapes = [
        f"{key} {list(state[key].shape)} instead of {list(own[key].shape)}"
        for key in own.keys() & state.keys()
        if own[key].shape != state[key].shape
    ]
    check_keys(missing=own.keys() - state.keys(), unexpected=state.keys() - own.keys(), wrong=shapes, source=source)
    network.load_state_dict(state, strict=True, assign=True)


def check_keys(*, missing: Iterable[str], unexpected: Iterable[str], wrong: Iterable[str], source: Path) -> None:
    """Raise unless weights and network have the same keys in the same shapes.

    Raises:
        InputError: lists each kind of difference.
    """
    parts = [
        f"{label}: {_shorten(sorted(keys))}"
        for label, keys in (
            ("missing keys", missing),
            ("unexpected keys", unexpected),
            ("wrong shapes", wrong),
        )
        if list(keys)
    ]
    if parts:
        raise InputError(f"{source}: not the weights of this network; " + "; ".join(parts))


def _shorten(keys: list[str]) -> str:
    more = len(keys) - _KEYS_SHOWN
    return ", ".join(keys[:_KEYS_SHOWN]) + (f" and {more} more" if more > 0 else "")


def _read_file(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise InputError(f"{path}: not a safetensors file ({error}); copy or download it again") from error


# What a configuration also says and no result depends on: where it was loaded from and by which version.
_ASIDE = frozenset({"transformers_version", "architectures", "dtype", "torch_dtype"})


def fingerprint(network: nn.Module, *settings: Mapping[str, Any]) -> str:
    """SHA-256 of a network's weights, by name, of its configuration and of further settings; 64 hex digits.

    Args:
        network: of diffusers or transformers.
        settings: such as those of its preprocessing.
    """
    own: Any = network.config
    config = own if isinstance(own, Mapping) else own.to_dict()
    result = hashlib.sha256(json.dumps([_told(values) for values in (config, *settings)], default=str).encode())
    for name, value in sorted(network.state_dict().items()):
        result.update(f"{name} {value.dtype} {list(value.shape)}".encode())
        result.update(value.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().data)
    return result.hexdigest()


def joined_fingerprint(networks: Sequence[nn.Module]) -> str:
    """SHA-256 that stands for several networks, in their order; 64 hex digits."""
    return hashlib.sha256(" ".join(map(fingerprint, networks)).encode()).hexdigest()


def same_settings(first: Mapping[str, Any], second: Mapping[str, Any]) -> bool:
    """Whether two configurations make the same network: equal but for what says where and by whom they were written."""
    return _told(first) == _told(second)


def _told(values: Mapping[str, Any]) -> list[tuple[str, Any]]:
    return sorted((name, value) for name, value in values.items() if name not in _ASIDE and not name.startswith("_"))


_DEVICES = "auto, cpu, cuda, cuda:1 (the second GPU) or mps"


def find_device(name: str | torch.device) -> torch.device:
    """Find a device that works here.

    Args:
        name: torch's device or its name, or ``"auto"`` for cuda if there is one, else mps, else cpu.

    Raises:
        InputError: if it cannot be used.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        device = torch.device(name)
    except (RuntimeError, TypeError) as error:
        raise InputError(f"device: expected {_DEVICES}, got {name}") from error
    if device.type == "meta":  # which would lose the weights
        raise InputError(f"device: expected {_DEVICES}, got {name}")
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, ImportError) as error:
        reason = str(error).splitlines()[0].split(". ")[0]
        raise InputError(f"device {name}: cannot be used here ({reason})") from error
    return device


def choose_dtype(name: str | torch.dtype, device: torch.device) -> torch.dtype:
    """Dtype of the networks.

    Args:
        name: torch's dtype or its name, or ``"auto"``, see ``AmodalCompleter.from_pretrained``.
        device: where the networks run.

    Raises:
        InputError: if there is no such dtype.
    """
    if name == "auto":
        if device.type != "cuda":
            return torch.float32
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16
    known = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
    found = known.get(str(name).removeprefix("torch."))
    if found is None:
        raise InputError(f"dtype: expected auto, {', '.join(known)}, got {name}")
    if found == torch.float16 and device.type == "cpu":
        logger.warning("dtype: float16 is many times slower than float32 or bfloat16 on a CPU; give one of these")
    return found


_LAYER_COUNTS = (
    "layers_per_block", "transformer_layers_per_block", "num_encoder_blocks", "num_decoder_blocks", "num_hidden_layers",
)  # fmt: skip
_MOST_LAYERS = 1000


def check_layer_counts(config: Mapping[str, Any], source: Path) -> None:
    """Refuse a network with so many layers that making it, even without memory for weights, would not end.

    Args:
        config: of a network.
        source: its folder, for the message.

    Raises:
        InputError: if a number of layers is above 1,000.
    """
    for name in _LAYER_COUNTS:
        value = config.get(name)
        for count in value if isinstance(value, list) else [value]:
            if isinstance(count, int) and count > _MOST_LAYERS:
                raise InputError(f"{source}: {name}: expected at most {_MOST_LAYERS}, got {count:.6g}")
