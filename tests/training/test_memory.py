"""How many tokens fit into so much memory."""

import pytest
import torch

from outweigh.training.memory import LEAST, MOMENTS, USED, fitting_tokens, reserved_bytes, tokens_within


@pytest.mark.parametrize(
    ("room", "tokens"),
    [
        (20_000, 16_384),
        (16_384, 16_384),
        (16_383, 8_192),
        (8_192, 8_192),
        (1_500, 1_024),
        (600, LEAST),
        (0, LEAST),
    ],
)
def test_tokens_are_all_that_are_asked_for_or_a_number_that_a_little_memory_does_not_change(room, tokens):
    each = 1_000_000.0
    assert tokens_within(room * each / USED + 1, each, 16_384) == tokens


def test_no_more_tokens_than_were_asked_for_however_few_those_are():
    assert tokens_within(1e9, 1.0, 6_279) == 6_279
    assert tokens_within(-1e9, 1e6, 256) == 256


def test_a_cpus_memory_is_not_looked_at():
    def never(texts):
        raise AssertionError

    assert fitting_tokens(never, [[[1, 2], [3]]] * 5, [], 0, torch.device("cpu"), 2048) == 2048


def test_moments_are_reserved_until_the_optimizer_has_them_and_copies_always():
    weights = [torch.nn.Parameter(torch.ones(3, 5)), torch.nn.Parameter(torch.ones(7))]
    optimizer = torch.optim.AdamW(weights)
    assert reserved_bytes(weights, None, 0) == reserved_bytes(weights, optimizer, 0) == 22 * MOMENTS
    assert reserved_bytes(weights, optimizer, 2) == 22 * (MOMENTS + 2 * 4)
    sum(weight.sum() for weight in weights).backward()
    optimizer.step()
    assert reserved_bytes(weights, optimizer, 0) == 0
    assert reserved_bytes(weights, optimizer, 1) == 22 * 4
