"""How many tokens fit into so much memory."""

import numpy as np
import pytest
import torch

from outweigh.training.memory import LEAST, USED, fitting_tokens, tokens_within


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

    assert fitting_tokens(never, np.arange(9), 4, [], torch.device("cpu"), 2048) == 2048
