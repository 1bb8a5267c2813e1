"""Distinct clips of a run that could not be read, and how many of them a data set may have."""

from __future__ import annotations

from collections.abc import Sequence

from amodal_diffusion.training.batches import BadClip
from amodal_diffusion.training.order import Order

Damaged = dict[str, list[str]]
"""Names of clips by the number of the first clip of their data set, as JSON has it."""

MOST_DAMAGED = 0.01
"""Share of a data set whose damage is put up with."""
LEAST_TO_STOP = 16
"""This many damaged clips of any data set are put up with, less one."""


def add_damaged(known: Damaged, found: Sequence[BadClip], order: Order) -> tuple[Damaged, list[BadClip]]:
    """Add clips to those known as damaged.

    Args:
        known: up to now; not modified.
        found: by all processes in one step; the same clip may be there twice.
        order: gives the data set of each.

    Returns:
        all damaged clips, and those of them that were not known.
    """
    damaged = {part: list(names) for part, names in known.items()}
    fresh = []
    for clip in found:
        names = damaged.setdefault(_part(clip, order), [])
        if clip.name not in names:
            names.append(clip.name)
            fresh.append(clip)
    return damaged, fresh


def excess_of_damage(fresh: Sequence[BadClip], damaged: Damaged, order: Order) -> str | None:
    """Error message if a data set has more damaged clips than a few bad files explain; None if none has.

    Args:
        fresh: clips found in this step; only their data sets are looked at.
        damaged: all damaged clips.
        order: gives the size of each data set.
    """
    for clip in fresh:
        count, length = len(damaged[_part(clip, order)]), len(order.part_of(clip.index))
        if count >= LEAST_TO_STOP and count > MOST_DAMAGED * length:
            return (
                f"data: {count} of {length} clips of a data set cannot be read, the last of them {clip.name} "
                f"({clip.reason}); a run puts up with {MOST_DAMAGED:.0%}, so repair the data set or write it anew"
            )
    return None


def _part(clip: BadClip, order: Order) -> str:
    return str(order.part_of(clip.index).start)
