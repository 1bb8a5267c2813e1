"""From a segmenter's name, folder or hub id to a `Segmenter`."""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, cast

import torch
import transformers
from safetensors import SafetensorError

from amodal_diffusion.basics import InputError
from amodal_diffusion.models.downloads import Wanted, fetch
from amodal_diffusion.models.hub_ids import HubId
from amodal_diffusion.models.libraries import without_bars
from amodal_diffusion.models.segmenters.classical import ClassicalSegmenter
from amodal_diffusion.models.segmenters.preprocessing import Preprocessing
from amodal_diffusion.models.segmenters.protocol import CLASSICAL, Segmenter
from amodal_diffusion.models.segmenters.sam2 import Sam2Segmenter
from amodal_diffusion.models.segmenters.sam3 import Sam3Segmenter
from amodal_diffusion.models.weights import check_keys, find_device, find_variant, read_json

PLUGINS = "amodal_diffusion.segmenters"
"""Group of entry points under which other packages offer segmenters, see docs/segmenters.md."""
_IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
_HALF = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
# By `model_type` of config.json: network, inference session, mean and standard deviation where no file says any.
_SAM2 = {
    "sam2_video": ("Sam2VideoModel", "Sam2VideoInferenceSession", _IMAGENET),
    "edgetam_video": ("EdgeTamVideoModel", "EdgeTamVideoInferenceSession", _IMAGENET),
}
_SAM3 = "sam3_video"


def load_segmenter(name: str, *, device: str = "auto", dtype: str = "auto", yes: bool = False) -> Segmenter:
    """Load a segmenter.

    Args:
        name: `CLASSICAL`, a plug-in (an entry point of the group `PLUGINS`, called with the device), a folder, or a
            hub id, also with ``@REVISION``.
        device: torch's name, or ``"auto"``.
        dtype: ``"float32"``, ``"float16"``, ``"bfloat16"``; ``"auto"`` is bfloat16 on cuda, else float32.
        yes: download a hub id without asking.

    Raises:
        InputError: if there is no such segmenter or it cannot be loaded; says how to get one.
    """
    if name == CLASSICAL:
        return ClassicalSegmenter()
    where = find_device(device)
    plugins = entry_points(group=PLUGINS, name=name)
    if plugins:
        make = cast(Callable[[str], Segmenter], next(iter(plugins)).load())
        return make(str(where))
    place = locate_segmenter(name)
    folder = place if isinstance(place, Path) else fetch([place], yes=yes)[place]
    kind = str(read_json(folder / "config.json").get("model_type"))
    if kind == _SAM3:
        network = load_network("Sam3VideoModel", folder, device=where, dtype=find_dtype(dtype, where))
        preprocessing = Preprocessing.read(folder, size=network.config.image_size, default=_HALF)
        return Sam3Segmenter(network, _load("AutoTokenizer", folder, trust_remote_code=False), preprocessing)
    if kind not in _SAM2:
        raise InputError(
            f"segmenter {name}: is a {kind} model, expected one of {', '.join((*_SAM2, _SAM3))}; others plug in as "
            "docs/segmenters.md says"
        )
    network_class, session_class, default = _SAM2[kind]
    network = load_network(network_class, folder, device=where, dtype=find_dtype(dtype, where))
    preprocessing = Preprocessing.read(folder, size=network.config.image_size, default=default)
    return Sam2Segmenter(network, getattr(transformers, session_class), preprocessing)


def load_network(class_name: str, folder: Path, *, device: torch.device, dtype: torch.dtype) -> Any:  # noqa: ANN401
    """Load a network of transformers from safetensors; weights that it does not have are left out.

    Args:
        class_name: in transformers.
        folder: of the checkpoint.
        device: where it runs.
        dtype: of its weights.

    Raises:
        InputError: if a file is missing or damaged, weights are missing, or a library that it needs is.
    """
    find_variant(folder, "model")  # says what is there instead
    network, report = _load(class_name, folder, use_safetensors=True, output_loading_info=True, dtype=dtype)
    wrong = [str(entry[0]) for entry in report.get("mismatched_keys", [])]
    check_keys(missing=report.get("missing_keys", []), unexpected=[], wrong=wrong, source=folder)
    return network.to(device).eval().requires_grad_(False)


def _load(class_name: str, folder: Path, **settings: object) -> Any:  # noqa: ANN401
    try:
        with without_bars():
            return getattr(transformers, class_name).from_pretrained(folder, local_files_only=True, **settings)
    except (ImportError, OSError, ValueError, RuntimeError, SafetensorError) as error:
        reason = str(error).strip().splitlines()[0].rstrip(":") if str(error).strip() else type(error).__name__
        raise InputError(f"segmenter {folder}: cannot be loaded as {class_name} ({reason})") from error


def find_dtype(name: str, device: torch.device) -> torch.dtype:
    """The dtype that a user names.

    Args:
        name: as for :func:`load_segmenter`.
        device: where the network runs.

    Raises:
        InputError: if there is no such dtype.
    """
    if name == "auto":
        return torch.bfloat16 if device.type == "cuda" else torch.float32
    known = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
    if name not in known:
        raise InputError(f"dtype: expected auto, {', '.join(known)}, got {name}")
    return known[name]


def locate_segmenter(name: str) -> Path | Wanted:
    """Where a checkpoint is, without asking the hub.

    Args:
        name: a folder, or a hub id, also with ``@REVISION``.

    Raises:
        InputError: if it is neither.
    """
    if Path(name).is_dir():
        return Path(name)
    hub_id = HubId.parse(name)
    if hub_id is None:
        raise InputError(f"segmenter {name}: no folder, hub id or plug-in of this name; see docs/segmenters.md")
    return Wanted(hub_id, f"segmenter {name}", half=False, suffixes=(".txt",))


def is_installed(name: str) -> bool:
    """Whether this package (without weights) or another installed one offers a segmenter of this name."""
    return name == CLASSICAL or bool(entry_points(group=PLUGINS, name=name))
