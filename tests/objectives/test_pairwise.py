import math

import pytest
import torch

from outweigh.errors import ShapeError
from outweigh.objectives.pairwise import pairwise_loss, squared_loss, squared_reward_sum


def gradient(gap: float, **arguments):
    at = torch.tensor([gap], dtype=torch.float64, requires_grad=True)
    pairwise_loss(at, **arguments).sum().backward()
    return at.grad.item()


def sigma(x):
    return 1 / (1 + math.exp(-x))


def test_a_gap_equal_to_its_margin_costs_one_coin_toss():
    loss = pairwise_loss(torch.tensor([2.0]), margin=torch.tensor([2.0]))  # softplus(2 - 2) = log 2
    torch.testing.assert_close(loss, torch.tensor([math.log(2)]))


def test_with_every_default_it_is_bradley_terry():
    # -log sigma(1) = log(1 + e^-1) = 0.3132617; -log sigma(-1) is 1 more
    loss = pairwise_loss(torch.tensor([1.0, -1.0]))
    torch.testing.assert_close(loss, torch.tensor([0.3132617, 1.3132617]))


def test_every_argument_at_once_is_the_equation_written_out():
    gap, margin, rate, cap, weight = 0.7, 0.4, 0.2, 5.0, 3.0
    by_hand = weight * (
        (1 - rate) * math.log(1 + math.exp(margin - gap))
        + rate * math.log(1 + math.exp(gap - margin))
        + math.log(1 + math.exp(gap - cap))
    )
    one = [torch.tensor([value], dtype=torch.float64) for value in (gap, margin, rate, cap, weight)]
    loss = pairwise_loss(one[0], margin=one[1], flip_rate=one[2], cap=one[3], weight=one[4])
    assert loss.item() == pytest.approx(by_hand, rel=1e-12)


@pytest.mark.parametrize("gap", [-6.0, -0.3, 0.0, 0.7, 2.5, 9.0])
def test_the_gradient_of_every_argument_at_once_is_the_derivative_written_out(gap):
    margin, rate, cap, weight = 0.4, 0.2, 5.0, 3.0
    own = -(1 - rate) * sigma(margin - gap) + rate * sigma(gap - margin) + sigma(gap - cap)
    found = gradient(gap, margin=margin, flip_rate=rate, cap=cap, weight=weight)
    assert found == pytest.approx(weight * own, rel=1e-12)


@pytest.mark.parametrize("cap", [1.0, 4.5, 10.0])
def test_a_cap_rests_where_a_flip_rate_does_with_twice_the_curvature_and_is_convex(cap):
    rate = sigma(-cap / 2)  # METHODS: the same optimum as label smoothing by this rate
    at = torch.linspace(-12, 24, 73, dtype=torch.float64)
    at = torch.cat([torch.tensor([cap / 2], dtype=torch.float64), at]).requires_grad_()
    for arguments, times in (({"cap": cap}, 2), ({"flip_rate": rate}, 1)):
        (slope,) = torch.autograd.grad(pairwise_loss(at, **arguments).sum(), at, create_graph=True)
        (curvature,) = torch.autograd.grad(slope.sum(), at)
        assert slope[0].item() == pytest.approx(0, abs=1e-12)
        assert curvature[0].item() == pytest.approx(times * sigma(cap / 2) * sigma(-cap / 2), rel=1e-12)
        assert (curvature > 0).all()


@pytest.mark.parametrize("h", [-3.0, 0.0, 5.0, 12.0])
def test_ipo_is_the_square_written_out_and_its_derivative(h):
    beta, weight = 0.1, 2.0
    gap = torch.tensor([beta * h], dtype=torch.float64, requires_grad=True)
    loss = squared_loss(gap, beta=beta, weight=torch.tensor([weight], dtype=torch.float64))
    loss.sum().backward()
    assert loss.item() == pytest.approx(weight * (h - 1 / (2 * beta)) ** 2, rel=1e-12, abs=1e-12)
    by_hand = 2 * weight * (h - 1 / (2 * beta)) / beta  # by the gap, which is beta h
    assert gap.grad.item() == pytest.approx(by_hand, rel=1e-12, abs=1e-12)


def test_smoothing_stops_pulling_at_the_margin_plus_the_log_odds_of_the_flip_rate():
    # d* = m + logit(1 - e) = 0.5 + log 9
    assert gradient(0.5 + math.log(9), margin=0.5, flip_rate=0.1) == pytest.approx(0, abs=1e-12)
    assert gradient(0.5, margin=0.5, flip_rate=0.1) == pytest.approx(0.5 - 0.9)  # sigma(0) - (1 - e)


@pytest.mark.parametrize(("cap", "least"), [(5.0, 0.1578), (4.5, 0.2004), (3.0, 0.4028), (10.0, 0.01343)])
def test_a_capped_pair_rests_at_half_its_cap(cap, least):
    assert gradient(cap / 2, cap=cap) == pytest.approx(0, abs=1e-12)
    at_rest = pairwise_loss(torch.tensor([cap / 2], dtype=torch.float64), cap=cap)
    assert at_rest.item() == pytest.approx(least, rel=1e-3)  # 2 softplus(-cap / 2)


def test_a_cap_is_symmetric_about_its_half_and_gone_at_infinity():
    gap = torch.linspace(-4, 9, 27, dtype=torch.float64)
    torch.testing.assert_close(pairwise_loss(gap, cap=5.0), pairwise_loss(5.0 - gap, cap=5.0))
    torch.testing.assert_close(pairwise_loss(gap, cap=math.inf), pairwise_loss(gap))


def test_a_margin_asks_for_more_and_a_negative_one_for_less():
    # dl/dd = -sigma(m - d)
    assert gradient(0.0, margin=1.0) == pytest.approx(-1 / (1 + math.exp(-1)))
    assert gradient(0.0, margin=-1.0) == pytest.approx(-1 / (1 + math.exp(1)))


def test_a_weight_of_zero_silences_a_pair():
    weight = torch.tensor([0.0, 2.0])
    loss = pairwise_loss(torch.tensor([0.0, 0.0]), weight=weight)
    torch.testing.assert_close(loss, torch.tensor([0.0, 2 * math.log(2)]))


def test_large_gaps_neither_overflow_nor_lose_their_gradient():
    gap = torch.tensor([-1e4, 1e4], requires_grad=True)
    loss = pairwise_loss(gap, margin=1.0)
    loss.sum().backward()
    torch.testing.assert_close(loss.detach(), torch.tensor([10001.0, 0.0]))
    torch.testing.assert_close(gap.grad, torch.tensor([-1.0, 0.0]))


def test_half_precision_gaps_are_computed_in_float32():
    loss = pairwise_loss(torch.tensor([5.0], dtype=torch.bfloat16))
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, torch.tensor([math.log1p(math.exp(-5))]))


def test_a_column_against_a_row_is_refused_and_not_broadcast():
    with pytest.raises(ShapeError, match=r"gap \(2,\), margin \(2, 1\); want one shape \(B,\)"):
        pairwise_loss(torch.zeros(2), margin=torch.zeros(2, 1))
    with pytest.raises(ShapeError, match=r"gap \(2, 1\)"):
        pairwise_loss(torch.zeros(2, 1))


def test_centring_is_the_square_of_the_sum_of_both_rewards():
    chosen = torch.tensor([3.0, -1.0], requires_grad=True)
    term = squared_reward_sum(chosen, torch.tensor([1.0, 1.0]))
    torch.testing.assert_close(term.detach(), torch.tensor([16.0, 0.0]))  # (3+1)^2, (-1+1)^2
    term.sum().backward()
    torch.testing.assert_close(chosen.grad, torch.tensor([8.0, 0.0]))  # 2 (r_c + r_r)


def test_centring_refuses_rewards_of_two_shapes():
    with pytest.raises(ShapeError, match=r"reward_rejected \(2, 1\)"):
        squared_reward_sum(torch.zeros(2), torch.zeros(2, 1))
