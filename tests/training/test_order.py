"""The order of clips and their randomness follow from the seed and the count alone."""

from __future__ import annotations

from itertools import islice

import torch

from amodal_diffusion.training.order import BatchCounts, ClipOrder, seeded_generator, stream_seed


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
