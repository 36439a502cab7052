import math
from itertools import permutations

import pytest
import torch

from outweigh.errors import ShapeError
from outweigh.objectives.listwise import plackett_luce
from outweigh.objectives.pairwise import pairwise_loss


def ranked(rewards, ranks):
    return plackett_luce(
        torch.tensor([rewards], dtype=torch.float64), torch.tensor([ranks], dtype=torch.float64)
    )


def test_two_responses_are_bradley_terry():
    gap = torch.tensor([1.0 - 0.2], dtype=torch.float64)
    torch.testing.assert_close(ranked([1.0, 0.2], [1, 2]), pairwise_loss(gap))


def test_three_equal_rewards_cost_the_log_of_six_orders():
    assert ranked([0.5, 0.5, 0.5], [3, 1, 2]).item() == pytest.approx(math.log(6))


def test_the_probabilities_of_all_orders_sum_to_one():
    rewards = [0.3, -1.2, 2.0, 0.7]
    total = sum(math.exp(-ranked(rewards, order).item()) for order in permutations([1, 2, 3, 4]))
    assert total == pytest.approx(1)


def test_its_gradient_is_the_derivative_written_out():
    rewards, ranks = [0.3, -1.2, 2.0, 0.7], [2, 4, 1, 3]
    at = torch.tensor([rewards], dtype=torch.float64, requires_grad=True)
    plackett_luce(at, torch.tensor([ranks], dtype=torch.float64)).sum().backward()
    order = sorted(range(4), key=lambda place: ranks[place])
    by_hand = [-1.0] * 4  # but the last, of whom nothing is left to choose, whose -1 its own share takes back
    for turn in range(4):
        left = order[turn:]
        total = sum(math.exp(rewards[each]) for each in left)
        for each in left:
            by_hand[each] += math.exp(rewards[each]) / total
    assert at.grad[0].tolist() == pytest.approx(by_hand, abs=1e-12)


def test_a_tie_costs_the_mean_over_its_orders():
    rewards = [0.3, -1.2, 2.0, 0.7]
    orders = [(1, *rest) for rest in permutations([2, 3, 4])]  # the first wins, the others tie
    by_hand = sum(ranked(rewards, order).item() for order in orders) / len(orders)
    assert ranked(rewards, [1, 2, 2, 2]).item() == pytest.approx(by_hand)


def test_two_tied_rewards_rest_where_they_are_equal():
    rewards = torch.tensor([[1.0, 1.0]], requires_grad=True)
    plackett_luce(rewards, torch.tensor([[1.0, 1.0]])).sum().backward()
    torch.testing.assert_close(rewards.grad, torch.zeros(1, 2))


def test_padding_changes_nothing():
    padded = ranked([1.0, 0.2, 9.0], [1, 2, math.nan])
    torch.testing.assert_close(padded, ranked([1.0, 0.2], [1, 2]))


def test_shifting_all_rewards_changes_nothing():
    torch.testing.assert_close(ranked([5.0, 6.0, 4.0], [2, 1, 3]), ranked([0.0, 1.0, -1.0], [2, 1, 3]))


def test_other_shapes_and_large_ties_are_refused():
    with pytest.raises(ShapeError, match=r"want one shape \(B, K\)"):
        plackett_luce(torch.zeros(3), torch.zeros(3))
    with pytest.raises(ShapeError, match="11 responses share one rank, at most 10"):
        plackett_luce(torch.zeros(1, 11), torch.ones(1, 11))
