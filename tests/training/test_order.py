"""The order of clips and their randomness follow from the seed and the count alone."""

from __future__ import annotations

from itertools import islice

import numpy as np
import pytest
import torch

from amodal_diffusion.basics import InputError
from amodal_diffusion.training.batches import order_of
from amodal_diffusion.training.order import (
    BatchCounts,
    ClipOrder,
    MixedOrder,
    Part,
    seeded_generator,
    stream_seed,
    whole_weights,
)


def counts(first: int, process: int, *, batch: int, processes: int, number: int) -> list[list[int]]:
    return list(islice(BatchCounts(first, batch_size=batch, process=process, processes=processes), number))


def test_every_epoch_is_a_new_order_of_all_clips() -> None:
    order = ClipOrder(10, seed=3)
    epochs = [[order.clip_at(10 * epoch + place) for place in range(10)] for epoch in range(3)]
    assert all(sorted(epoch) == list(range(10)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 3
    assert ClipOrder(10, seed=3).clip_at(17) == epochs[1][7]
    assert [ClipOrder(10, seed=4).clip_at(count) for count in range(10)] != epochs[0]


def test_processes_share_out_what_one_would_take() -> None:
    alone = counts(0, 0, batch=4, processes=1, number=3)
    shared = [counts(0, process, batch=2, processes=2, number=3) for process in range(2)]
    assert alone == [first + second for first, second in zip(*shared, strict=True)]


def test_a_later_start_goes_on_where_the_counts_were() -> None:
    whole = counts(0, 1, batch=2, processes=3, number=5)
    assert counts(2 * 6, 1, batch=2, processes=3, number=3) == whole[2:]


def test_generators_differ_by_purpose_seed_and_count() -> None:
    draws = {
        float(torch.randn(1, generator=seeded_generator(purpose, seed, count)))
        for purpose in ("order", "training", "precompute")
        for seed in range(3)
        for count in range(3)
    }
    assert len(draws) == 27
    assert stream_seed("global", 1, 2, 3) == stream_seed("global", 1, 2, 3)
    assert stream_seed("global", 1, 2, 3) != stream_seed("global", 1, 3, 2)


@pytest.mark.parametrize("processes", [1, 2, 3])
def test_each_clip_is_taken_once_in_as_many_counts_as_there_are_clips(processes: int) -> None:
    length, batch = 11, 2  # neither divides the other
    order = ClipOrder(length, seed=5)
    shared = [counts(0, process, batch=batch, processes=processes, number=12) for process in range(processes)]
    taken = sorted(count for batches in shared for one in batches for count in one)
    assert taken == list(range(len(taken)))
    for epoch in range(2):
        clips = [order.clip_at(count) for count in taken[epoch * length : (epoch + 1) * length]]
        assert sorted(clips) == list(range(length))


def test_one_data_set_has_the_order_that_it_always_had() -> None:
    assert [ClipOrder(8, seed=1).clip_at(count) for count in range(10)] == [5, 6, 4, 3, 1, 7, 2, 0, 5, 1]
    assert [order_of(range(8), seed=1).clip_at(count) for count in range(3)] == [5, 6, 4]  # type: ignore[arg-type]


@pytest.mark.parametrize("weights", [(3.0, 1.0), (0.7, 0.2, 0.1), (1.0, 1.0, 1.0), (2.5, 1.0), (1.0, 40.0, 3.0)])
def test_a_mixture_follows_its_weights_and_has_epochs_of_its_own(weights: tuple[float, ...]) -> None:
    lengths = [5, 7, 3][: len(weights)]
    order = MixedOrder([Part(length, weight) for length, weight in zip(lengths, weights, strict=True)], seed=2)
    ranges = [order.part_of(start) for start in (0, 5, 12)[: len(weights)]]
    assert ranges == [range(5), range(5, 12), range(12, 15)][: len(weights)]
    clips = [order.clip_at(count) for count in range(400)]
    for part, weight in zip(ranges, weights, strict=True):
        own = [clip for clip in clips if clip in part]
        for start in range(0, len(own) - len(part), len(part)):
            assert sorted(own[start : start + len(part)]) == list(part)
        numbers = np.cumsum([clip in part for clip in clips])
        assert np.abs(numbers - np.arange(1, 401) * weight / sum(weights)).max() < 1.0
    assert [MixedOrder([Part(length, weight) for length, weight in zip(lengths, weights, strict=True)], seed=2).clip_at(
        count) for count in (399, 0, 77)] == [clips[399], clips[0], clips[77]]  # fmt: skip


def test_weights_without_a_common_period_are_refused() -> None:
    assert whole_weights([0.75, 0.25]) == [3, 1]
    assert whole_weights([20_000, 10_000.0]) == [2, 1]
    with pytest.raises(InputError, match=r"data\.mixture: expected weights in the proportion .* round them"):
        whole_weights([0.123456789, 1.0])
