"""One string that says which network it is: its weights, its settings, its preprocessing."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

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


def _told(values: Mapping[str, Any]) -> list[tuple[str, Any]]:
    return sorted((name, value) for name, value in values.items() if name not in _ASIDE and not name.startswith("_"))
