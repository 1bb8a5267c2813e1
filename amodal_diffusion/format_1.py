"""Sampling settings that version 0.1 wrote (format 1 of ``checkpoint.json``, YAML files), in today's names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from amodal_diffusion.basics import InputError

_SAMPLING = {"solver": "scheduler"}
_BEYOND = {
    "visible_weight": "expected_iou_weight",
    "other_frames": "temporal_prior",
    "copies": "color_propagation",
    "views": "tta",
    "zoom": "crop_scale",
}
_REMOVED = {"other_frames_weight": 0.0, "painted_share": 1.0}
"""Fields that are no more, with the value that means what is done without them."""
_NEW_KEYS = {"beyond", "fit", "scheduler", "samples", "resample", "conditioning"}
_ALL_FILTERS = ["depth", "components", "area"]


def sampling_of_format_1(values: Mapping[str, Any]) -> dict[str, Any]:
    """Sampling settings of version 0.1 in today's names; where 0.1 had no field, its fixed behavior.

    Args:
        values: as they stand in the file. ``zoom`` of null meant letterboxed frames; mask filters were always on.

    Returns:
        fields of :class:`~amodal_diffusion.config.SamplingConfig`, those of its nested group under ``beyond``.
    """
    named = renamed_of_format_1({"zoom": None, **values})
    inner = set(_BEYOND.values())
    beyond = {"mask_filters": _ALL_FILTERS, **{name: value for name, value in named.items() if name in inner}}
    return {**{name: value for name, value in named.items() if name not in inner}, "beyond": beyond}


def renamed_of_format_1(values: Any) -> Any:  # noqa: ANN401 - from a file, it may be anything
    """Values by today's names, of which none is nested; what is no mapping stays, for others to refuse.

    Raises:
        InputError: if a field that was removed has a value that means something.
    """
    if not isinstance(values, Mapping):
        return values
    for name, neutral in _REMOVED.items():
        if values.get(name, neutral) != neutral:
            raise InputError(
                f"{name}: expected {neutral}, as this field was removed, got {values[name]!r}; version 0.1 reads it"
            )
    names = {**_SAMPLING, **_BEYOND}
    named = {names.get(name, name): value for name, value in values.items() if name not in ("zoom", *_REMOVED)}
    if "zoom" not in values:
        return named
    zoom = values["zoom"]
    return {**named, "fit": "letterbox"} if zoom is None else {**named, "fit": "crop", "crop_scale": zoom}


def settings_of_format_1(values: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, str]]:
    """Content of a YAML file of version 0.1 in today's names.

    Args:
        values: content of the file.

    Returns:
        content that means the same today, and the new name of each old key that the file has; the content as it is
        where there is none.

    Raises:
        InputError: if old and new keys are mixed, or training and sampling crop at different scales.
    """
    sampling, data = (values[name] if isinstance(values.get(name), Mapping) else {} for name in ("sampling", "data"))
    found = {f"sampling.{old}": f"sampling.{new}" for old, new in _SAMPLING.items() if old in sampling}
    found |= {f"sampling.{old}": f"sampling.beyond.{new}" for old, new in _BEYOND.items() if old in sampling}
    removed = [name for name in _REMOVED if name in sampling]
    if "zoom" in data:
        found["data.zoom"] = "sampling.beyond.crop_scale"
    if not found and not removed:
        return dict(values), {}
    mixed = sorted(sampling.keys() & _NEW_KEYS)
    if mixed and found:
        raise InputError(
            f"sampling.{mixed[0]}: is new beside {next(iter(found))}, a key of version 0.1, which is now "
            f"{next(iter(found.values()))}; rename the old keys"
        )
    if mixed:
        raise InputError(f"sampling.{removed[0]}: a key of version 0.1 beside new ones; remove it")
    if data.get("zoom", sampling.get("zoom")) != sampling.get("zoom"):
        raise InputError(
            f"data.zoom: expected sampling.zoom, {sampling.get('zoom')}, as version 0.1 did, got {data['zoom']}; give "
            "sampling.fit crop and sampling.beyond.crop_scale, by which training crops too"
        )
    today = {**values, "sampling": sampling_of_format_1(sampling)}
    if "zoom" in data:
        today["data"] = {name: value for name, value in data.items() if name != "zoom"}
    return today, found
