"""Cleaning of amodal training sets: each rule is a predicate, and what it drops is counted.

The kinds of rules are those of SAMEO's paper; it states no thresholds, so all numbers are ours.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from amodal_diffusion.types import BoolArray

Rule = Callable[["CleaningRecord"], bool]

ARCHITECTURE = frozenset({"wall", "floor", "ceiling", "door", "window", "stairs", "beam", "column", "railing"})
"""Categories of rooms that DYCE and MP3D-Amodal annotate as objects."""


@dataclass(frozen=True)
class CleaningRecord:
    """What the rules look at.

    Attributes:
        name: ``IMAGE/OBJECT``, unique in its data set.
        modal: modal mask, bool ``[H, W]``.
        amodal: amodal mask, bool ``[h, w]``; a size other than the modal mask's is a reason to drop the record.
        image_size: height and width of the image; None if unknown.
        category: name of the category, in lower case; empty if unknown.
        is_stuff: whether the annotation is of a region without instances, such as sky.
        box_cover: share of the object's box that boxes of other objects cover, in [0, 1].
        nearer: names of the objects that the annotation puts in front of this one.
        farther: names of the objects that it puts behind this one.
    """

    name: str
    modal: BoolArray
    amodal: BoolArray
    image_size: tuple[int, int] | None = None
    category: str = ""
    is_stuff: bool = False
    box_cover: float = 0.0
    nearer: Sequence[str] = ()
    farther: Sequence[str] = ()


@dataclass(frozen=True)
class NamedRule:
    """A rule and the reason that it gives.

    Attributes:
        reason: what is counted.
        drops: True for a record that is dropped.
    """

    reason: str
    drops: Rule


@dataclass(frozen=True)
class Cleaned:
    """What is left of a data set.

    Attributes:
        kept: records that no rule drops; the modal mask is inside the amodal mask.
        reasons: number of records that each rule dropped; a record counts for the first rule that drops it.
    """

    kept: list[CleaningRecord]
    reasons: Counter[str]


def size_differs(record: CleaningRecord) -> bool:
    """Whether the masks differ in size from each other or from the image."""
    sizes = {record.modal.shape, record.amodal.shape}
    return len(sizes) > 1 or (record.image_size is not None and record.image_size not in sizes)


def is_empty(record: CleaningRecord) -> bool:
    """Whether either mask has no pixel."""
    return not (record.modal.any() and record.amodal.any())


def too_small(record: CleaningRecord, *, least: int = 16) -> bool:
    """Whether the amodal mask has fewer than ``least`` pixels."""
    return int(record.amodal.sum()) < least


def sticks_out(record: CleaningRecord, *, most: float = 0.02) -> bool:
    """Whether more than this share of the modal mask lies outside the amodal mask; less is united."""
    return int((record.modal & ~record.amodal).sum()) > most * int(record.modal.sum())


def is_stuff(record: CleaningRecord) -> bool:
    """Whether the annotation is of a region without instances."""
    return record.is_stuff


def is_architecture(record: CleaningRecord, *, categories: frozenset[str] = ARCHITECTURE) -> bool:
    """Whether the category is a part of a building."""
    return record.category.lower() in categories


def barely_visible(record: CleaningRecord, *, least: float = 0.10) -> bool:
    """Whether less than this share of the object is visible."""
    return int(record.modal.sum()) < least * int(record.amodal.sum())


def fills_image(record: CleaningRecord, *, most: float = 0.6) -> bool:
    """Whether the object covers more than this share of the image."""
    return int(record.amodal.sum()) > most * record.amodal.size


def too_occluded(record: CleaningRecord, *, most: float = 0.8) -> bool:
    """Whether more than this share of the object is occluded, as in unnatural composites."""
    return 1 - int((record.modal & record.amodal).sum()) / int(record.amodal.sum()) > most


def box_is_covered(record: CleaningRecord, *, most: float = 0.9) -> bool:
    """Whether boxes of other objects cover more than this share of the object's box."""
    return record.box_cover > most


def order_contradicts(record: CleaningRecord) -> bool:
    """Whether one object is said to be both in front of this one and behind it."""
    return bool(set(record.nearer) & set(record.farther))


# Rules that count pixels rely on those before them: sizes agree, and no mask is empty.
COMMON_RULES = (
    NamedRule("size differs", size_differs),
    NamedRule("empty mask", is_empty),
    NamedRule("below 16 pixels", too_small),
    NamedRule("visible part outside the object", sticks_out),
)
ROOM_RULES = (
    NamedRule("architecture", is_architecture),
    NamedRule("barely visible", barely_visible),
    NamedRule("fills the image", fills_image),
)
WALT_RULES = (
    NamedRule("too occluded", too_occluded),
    NamedRule("box covered", box_is_covered),
    NamedRule("contradictory layer order", order_contradicts),
)
STUFF_RULES = (NamedRule("stuff", is_stuff),)
RULES: dict[str, tuple[NamedRule, ...]] = {
    "dyce": COMMON_RULES + ROOM_RULES,
    "mp3d-amodal": COMMON_RULES + ROOM_RULES,
    "walt": COMMON_RULES + WALT_RULES,
    "cocoa": COMMON_RULES + STUFF_RULES,
    "cocoa-cls": COMMON_RULES + STUFF_RULES,
    "d2sa": COMMON_RULES,
    "kins": COMMON_RULES,
    "muva": COMMON_RULES,
    "kitti-360-aps": COMMON_RULES + STUFF_RULES,
    "pix2gestalt": COMMON_RULES,
    "amodal-lvis": COMMON_RULES,
}
"""Rules of each data set that SAMEO's paper collects."""
DUPLICATE = "duplicate"
"""Reason for a record whose masks both occurred before in its image."""


def clean(records: Iterable[CleaningRecord], rules: Sequence[NamedRule]) -> Cleaned:
    """Drop records by rules, then repeated ones.

    Args:
        records: of any number of images; the part of a record's name before the last ``/`` names its image, in which
            equal masks are duplicates.
        rules: in the order in which they apply, such as ``RULES["cocoa"]``.
    """
    kept: list[CleaningRecord] = []
    reasons: Counter[str] = Counter()
    seen: set[tuple[str, bytes, bytes]] = set()
    for record in records:
        reason = next((rule.reason for rule in rules if rule.drops(record)), None)
        key = (record.name.rpartition("/")[0], record.modal.tobytes(), record.amodal.tobytes())
        if reason is None and key in seen:
            reason = DUPLICATE
        if reason is not None:
            reasons[reason] += 1
            continue
        seen.add(key)
        kept.append(replace(record, amodal=record.amodal | record.modal))
    return Cleaned(kept, reasons)
