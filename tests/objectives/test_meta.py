import math

import pytest
import torch

from outweigh.errors import ShapeError
from outweigh.objectives.meta import response_difference


def sigma(x):
    return 1 / (1 + math.exp(-x))


def test_it_is_the_mean_over_all_pairs_written_out():
    # k = 3: 2/9 [sigma(1) + sigma(3) + sigma(2)]
    found = response_difference(torch.tensor([[0.0, 1.0, 3.0]], dtype=torch.float64))
    assert found.item() == pytest.approx(2 / 9 * (sigma(1) + sigma(3) + sigma(2)), rel=1e-12)


def test_its_gradient_is_the_derivative_written_out():
    rewards = [0.4, -1.0, 2.5]
    at = torch.tensor([rewards], dtype=torch.float64, requires_grad=True)
    response_difference(at).sum().backward()
    by_hand = [
        2
        / 9
        * sum(
            math.copysign(sigma(one - other) * sigma(other - one), one - other)
            for other in rewards
            if other != one
        )
        for one in rewards
    ]
    assert at.grad[0].tolist() == pytest.approx(by_hand, rel=1e-12)


def test_equal_rewards_give_half_of_its_limit():
    # 2/k^2 * k(k-1)/2 * 1/2 = (k-1)/(2k), and twice that where all differ without end
    assert response_difference(torch.zeros(1, 5)).item() == pytest.approx(0.4)
    far = torch.tensor([[0.0, 1e3, 2e3, 3e3, 4e3]])
    assert response_difference(far).item() == pytest.approx(0.8)


def test_padding_counts_for_nothing_and_order_neither():
    padded = torch.tensor([[2.0, math.nan, 0.5], [0.5, 2.0, math.nan]])
    by_hand = 2 / 4 * sigma(1.5)
    torch.testing.assert_close(response_difference(padded), torch.tensor([by_hand, by_hand]))


def test_its_gradient_pushes_rewards_apart_and_vanishes_where_they_are_equal():
    rewards = torch.tensor([[0.0, 1.0]], requires_grad=True)
    response_difference(rewards).sum().backward()
    slope = 2 / 4 * sigma(1) * (1 - sigma(1))
    torch.testing.assert_close(rewards.grad, torch.tensor([[-slope, slope]]))
    equal = torch.zeros(1, 4, requires_grad=True)
    response_difference(equal).sum().backward()
    assert equal.grad.abs().max() == 0


def test_another_shape_and_a_single_response_are_refused():
    with pytest.raises(ShapeError, match=r"want \(B, K\)"):
        response_difference(torch.zeros(3))
    with pytest.raises(ShapeError, match="a prompt has 1 responses"):
        response_difference(torch.tensor([[1.0, math.nan]]))
