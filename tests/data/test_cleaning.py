"""Cleaning rules: each keeps one record and drops another, and what is dropped is counted."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from amodal_diffusion.data.cleaning import (
    COMMON_RULES,
    DUPLICATE,
    ROOM_RULES,
    RULES,
    STUFF_RULES,
    WALT_RULES,
    CleaningRecord,
    NamedRule,
    clean,
)
from amodal_diffusion.types import BoolArray


def box(top: int, left: int, bottom: int, right: int) -> BoolArray:
    mask = np.zeros((40, 40), dtype=np.bool_)
    mask[top:bottom, left:right] = True
    return mask


KEPT = CleaningRecord("a.jpg/1", box(5, 5, 15, 15), box(5, 5, 15, 25), (40, 40), "chair", nearer=["2"], farther=["3"])
DROPPED = {
    "size differs": replace(KEPT, image_size=(40, 41)),
    "empty mask": replace(KEPT, modal=np.zeros((40, 40), dtype=np.bool_)),
    "below 16 pixels": replace(KEPT, modal=box(0, 0, 3, 5), amodal=box(0, 0, 3, 5)),
    "visible part outside the object": replace(KEPT, modal=box(5, 2, 15, 15)),
    "architecture": replace(KEPT, category="Wall"),
    "barely visible": replace(KEPT, modal=box(5, 5, 6, 15)),
    "fills the image": replace(KEPT, modal=box(0, 0, 40, 30), amodal=box(0, 0, 40, 30)),
    "too occluded": replace(KEPT, modal=box(5, 5, 8, 15)),
    "box covered": replace(KEPT, box_cover=0.95),
    "contradictory layer order": replace(KEPT, farther=["2"]),
    "stuff": replace(KEPT, is_stuff=True),
}
ALL = (*COMMON_RULES, *ROOM_RULES, *WALT_RULES, *STUFF_RULES)


@pytest.mark.parametrize("rule", ALL, ids=lambda rule: rule.reason)
def test_a_rule_keeps_one_record_and_drops_another(rule: NamedRule) -> None:
    assert not rule.drops(KEPT)
    assert rule.drops(DROPPED[rule.reason])


def test_reasons_are_counted_and_small_disagreements_united() -> None:
    assert set(DROPPED) == {rule.reason for rule in ALL}
    slight = replace(KEPT, name="a.jpg/2", modal=box(5, 5, 15, 15) | box(4, 5, 5, 7))
    elsewhere = replace(KEPT, name="b.jpg/1")
    found = clean([KEPT, slight, *DROPPED.values(), KEPT, elsewhere], ALL)
    assert [record.name for record in found.kept] == ["a.jpg/1", "a.jpg/2", "b.jpg/1"]
    assert (found.kept[1].amodal >= slight.modal).all()
    wanted = Counter(dict.fromkeys(DROPPED, 1)) + Counter({DUPLICATE: 1})
    # A record counts for the first rule that drops it.
    wanted["barely visible"], wanted["too occluded"] = 1, 1
    assert found.reasons == wanted


def test_each_data_set_has_its_rules() -> None:
    for name, reason in (("cocoa", "stuff"), ("walt", "too occluded"), ("dyce", "architecture")):
        assert clean([DROPPED[reason]], RULES[name]).reasons == {reason: 1}
    assert clean([DROPPED["stuff"]], RULES["kins"]).reasons == {}
    other_size = replace(KEPT, amodal=np.ones((40, 39), dtype=np.bool_), image_size=None)
    assert clean([other_size], RULES["muva"]).reasons == {"size differs": 1}
