import numpy as np
import pytest

from outweigh.metrics.accuracy import accuracy, correct, longer_wins


def test_a_tie_is_half_right():
    gap = np.array([2.0, -1.0, 0.0, 0.5])
    assert correct(gap).tolist() == [1.0, 0.0, 0.5, 1.0]
    assert accuracy(gap) == (1 + 0 + 0.5 + 1) / 4


def test_rewards_that_are_all_equal_are_as_good_as_a_coin():
    assert accuracy(np.zeros(7)) == 0.5


def test_swapping_every_label_turns_accuracy_over():
    gap = np.random.default_rng(0).normal(0.3, 1.0, 101)
    assert accuracy(gap) + accuracy(-gap) == pytest.approx(1.0)


def test_the_longer_response_wins_and_equal_lengths_count_half():
    assert (
        longer_wins(np.array([10.0, 10.0, 3.0, 8.0]), np.array([5.0, 10.0, 9.0, 7.0]))
        == (1 + 0.5 + 0 + 1) / 4
    )
