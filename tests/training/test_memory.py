"""How many tokens fit into so much memory."""

import pytest
import torch

from outweigh.training import memory
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


def test_what_is_there_whatever_the_tokens_is_left_aside_and_what_is_reserved(monkeypatch):
    tokens, each, fixed, reserved = 4096, 1_000, 5_000_000, 3_000_000
    free = int(tokens * each / USED) + fixed + reserved + 1
    seen = []

    def peak(rewards, items, weights, device):
        seen.append(items)
        return fixed + each * sum(len(text) for item in items for text in item)

    monkeypatch.setattr(memory, "peak_bytes", peak)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (free - 700, 2 * free))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: 1_000)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: 300)
    items = [[[1] * size, [2] * 3] for size in (5, 90, 40, 7, 60, 20)]
    for less, expected in ((0, 4096), (1_000, 2048)):
        told = fitting_tokens(None, items, [], reserved + less, torch.device("cuda"), 16_384)
        assert told == expected
    assert [len(item[0]) for item in seen[1]] == [90, 60, 40, 20] and seen[0] == seen[1][:1]
    assert fitting_tokens(None, items[:1], [], 0, torch.device("cuda"), 16_384) == 16_384


def test_moments_are_reserved_until_the_optimizer_has_them_and_copies_always():
    weights = [torch.nn.Parameter(torch.ones(3, 5)), torch.nn.Parameter(torch.ones(7))]
    optimizer = torch.optim.AdamW(weights)
    assert reserved_bytes(weights, None, 0) == reserved_bytes(weights, optimizer, 0) == 22 * MOMENTS
    assert reserved_bytes(weights, optimizer, 2) == 22 * (MOMENTS + 2 * 4)
    sum(weight.sum() for weight in weights).backward()
    optimizer.step()
    assert reserved_bytes(weights, optimizer, 0) == 0
    assert reserved_bytes(weights, optimizer, 1) == 22 * 4
