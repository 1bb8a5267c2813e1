"""Which annotations are of one object: its name or number under the keys that annotation tools use."""

from __future__ import annotations

import logging
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from amodal_diffusion.basics import InputError
from amodal_diffusion.io.images import natural_key

TRACK_KEYS = ("track_id", "obj_id", "object_id", "instance_id", "tracking_id")
"""Keys of an object's number, in this order; in an annotation itself, or in its ``attributes`` as CVAT writes it."""
_LONGEST = 100  # characters; names of folders have at most 255 bytes
_UNFIT = re.compile(r"[/\\\x00-\x1f\x7f\ud800-\udfff]|^\.+|^(?=\s*$)")

logger = logging.getLogger(__name__)


def find_id(entry: Mapping[str, Any], keys: Iterable[str] = TRACK_KEYS) -> tuple[str, object] | None:
    """The number of an annotation's object, as the file has it.

    Args:
        entry: the annotation. Its own keys count before those of its ``attributes``, where CVAT has them.
        keys: in the order in which they count.

    Returns:
        the key and its value, which is neither null nor empty; None if there is none.
    """
    attributes = entry.get("attributes")
    for values in (entry, attributes if isinstance(attributes, Mapping) else {}):
        for key in keys:
            if values.get(key) not in (None, ""):
                return key, values[key]
    return None


def object_number(value: object, key: str) -> str:
    """A number or text that names an object; 7, 7.0 and "7" are one.

    Args:
        value: from JSON.
        key: for the message.

    Raises:
        InputError: if it is neither.
    """
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise InputError(f"{key}: expected a number or text, got {value!r:.40}")
    return str(value)


def identify(entries: Sequence[Mapping[str, Any]], where: str) -> list[str] | None:
    """Name the object of each annotation: by ``name``, or else by the first of `TRACK_KEYS` that it has.

    If a name goes with several numbers, as that of a category does, or a number with several names, the numbers count,
    and a notice says so.

    Args:
        entries: the annotations.
        where: begins the notice.

    Returns:
        one for each annotation; None if none has a name or a number.

    Raises:
        InputError: if some have one and others not, or one is neither text nor a number.
    """
    names = [_name(entry) for entry in entries]
    numbers = [_number(entry) for entry in entries]
    conflict = _conflict(names, numbers)
    if conflict:
        logger.warning("%s: %s: objects are told apart by track_id", where, conflict)
    found = [(number or name) if conflict else (name or number) for name, number in zip(names, numbers, strict=True)]
    if not any(found):
        return None
    for entry, identity in zip(entries, found, strict=True):
        if identity is None:
            raise InputError(f"annotation {entry['id']}: expected a track_id, as others have one")
    return [str(identity) for identity in found]


def _name(entry: Mapping[str, Any]) -> str | None:
    name = entry.get("name")
    return None if name in (None, "") else object_number(name, "name")


def _number(entry: Mapping[str, Any]) -> str | None:
    found = find_id(entry)
    return None if found is None else object_number(found[1], found[0])


def _conflict(names: Sequence[str | None], numbers: Sequence[str | None]) -> str:
    """What names and numbers say against each other; empty if nothing."""
    numbers_of: defaultdict[str, set[str]] = defaultdict(set)
    names_of: defaultdict[str, set[str]] = defaultdict(set)
    for name, number in zip(names, numbers, strict=True):
        if name is not None and number is not None:
            numbers_of[name].add(number)
            names_of[number].add(name)
    for kind, other, found in (("name", "track_ids", numbers_of), ("track_id", "names", names_of)):
        for value, several in found.items():
            if len(several) > 1:
                return f"{kind} {value} has the {other} {', '.join(sorted(several, key=natural_key)[:4])}"
    return ""


def folder_names(names: Sequence[str], where: str) -> list[str]:
    """Names of objects that can be names of folders: without separators, control characters and leading dots.

    Args:
        names: all different.
        where: begins the notice on names that are changed.

    Returns:
        all different, in the same order.
    """
    taken = {name for name in names if _fits(name)}
    given: list[str] = []
    for name in names:
        folder = name
        if not _fits(name):
            stem = _UNFIT.sub("_", name)[:_LONGEST]
            folder = next(
                text for number in range(1, len(names) + 2) if (text := stem + f"_{number}" * (number > 1)) not in taken
            )
            taken.add(folder)
            logger.warning("%s: object %s is named %s, as names become folders", where, ascii(name)[:_LONGEST], folder)
        given.append(folder)
    return given


def _fits(name: str) -> bool:
    return not _UNFIT.search(name) and len(name) <= _LONGEST
