import math

import pytest
import torch

from outweigh.errors import ConfigError, ShapeError
from outweigh.objectives.batch import batch_margin, batch_sum, exponential_batch_margin
from outweigh.objectives.pairwise import pairwise_loss

STEP = torch.tensor([3.0, 1.0, -1.0, 5.0])  # mean 2


def test_pairs_below_the_mean_are_asked_for_it_and_the_others_for_nothing():
    torch.testing.assert_close(batch_margin(STEP, STEP), torch.tensor([0.0, 2.0, 2.0, 0.0]))
    # the loss of the second: -log sigma(1 - 2) = softplus(1)
    loss = pairwise_loss(STEP, margin=batch_margin(STEP, STEP))
    assert loss[1].item() == pytest.approx(math.log(1 + math.e))
    assert loss[0].item() == pytest.approx(math.log(1 + math.exp(-3)))


def test_the_step_may_be_more_than_the_batch():
    torch.testing.assert_close(batch_margin(STEP[1:3], STEP), torch.tensor([2.0, 2.0]))


def test_without_a_threshold_all_pairs_are_asked_and_a_quantile_asks_some():
    torch.testing.assert_close(batch_margin(STEP, STEP, threshold="none"), torch.full((4,), 2.0))
    # the lower quartile of -1, 1, 3, 5 is 0.5
    quartile = batch_margin(STEP, STEP, threshold=0.25, scale=0.5)
    torch.testing.assert_close(quartile, torch.tensor([0.0, 0.0, 1.0, 0.0]))


def test_a_negative_mean_counts_as_nothing_unless_it_is_let():
    step = torch.tensor([-3.0, -1.0])
    assert batch_margin(step, step).tolist() == [0.0, 0.0]
    assert batch_margin(step, step, clamp=False).tolist() == [-2.0, 0.0]


def test_the_margin_has_no_gradient():
    gap = STEP.clone().requires_grad_()
    assert not batch_margin(gap, gap).requires_grad
    assert not exponential_batch_margin(gap, gap).requires_grad


def test_the_exponential_margin_grows_below_the_mean_up_to_its_limit():
    # population std of 3, 1, -1, 5 is sqrt(5): exp(2 (2 - 1) / sqrt 5) at 1; at -1, exp(6 / sqrt 5) = 14.6
    found = exponential_batch_margin(STEP, STEP, limit=10.0)
    by_hand = torch.tensor([0.0, math.exp(2 / math.sqrt(5)), 10.0, 0.0])
    torch.testing.assert_close(found, by_hand)
    far = torch.tensor([-1e4, 3e4, 3e4])
    assert exponential_batch_margin(far, far)[0].item() == pytest.approx(10.0)


def test_a_step_of_one_pair_another_shape_and_another_threshold_are_refused():
    with pytest.raises(ShapeError, match=r"S of two or more"):
        batch_margin(torch.tensor([1.0]), torch.tensor([1.0]))
    with pytest.raises(ShapeError, match=r"want \(B,\) and"):
        exponential_batch_margin(torch.ones(4, 1), STEP)
    with pytest.raises(ConfigError, match=r"threshold: got 'median'"):
        batch_margin(STEP, STEP, threshold="median")


def test_the_batch_sum_is_the_squared_mean_of_all_rewards_times_the_pairs():
    chosen = torch.tensor([2.0, -1.0, 4.0], dtype=torch.float64, requires_grad=True)
    rejected = torch.tensor([0.5, 1.0, 0.0], dtype=torch.float64, requires_grad=True)
    whole = 3 * torch.cat([chosen, rejected]).mean() ** 2  # mean 6.5 / 6
    assert whole.item() == pytest.approx(3 * (6.5 / 6) ** 2)
    expected = torch.autograd.grad(whole, [chosen, rejected])
    term = batch_sum(chosen, rejected, chosen + rejected)
    assert term.mean().item() == pytest.approx(whole.item(), rel=1e-12)
    torch.testing.assert_close(torch.autograd.grad(term.mean(), [chosen, rejected]), expected)


def test_a_part_of_the_step_brings_its_part_of_the_batch_sum():
    reward_S2 = torch.tensor([[2.0, 0.5], [-1.0, 1.0], [4.0, 0.0]], requires_grad=True)
    parts = [
        batch_sum(part[:, 0], part[:, 1], reward_S2.sum(1)).sum() / 3
        for part in (reward_S2[:1], reward_S2[1:])
    ]
    whole = 3 * reward_S2.mean() ** 2
    torch.testing.assert_close(sum(parts), whole)
    (found,), (expected,) = (torch.autograd.grad(each, [reward_S2]) for each in (sum(parts), whole))
    torch.testing.assert_close(found, expected)


def test_a_batch_sum_that_is_0_already_costs_and_pulls_nothing():
    chosen = torch.tensor([3.0, 5.0], requires_grad=True)
    term = batch_sum(chosen, torch.tensor([-8.0, 0.0]), torch.tensor([-5.0, 5.0]))
    (slope,) = torch.autograd.grad(term.sum(), [chosen])
    assert term.tolist() == [0.0, 0.0]
    assert slope.tolist() == [0.0, 0.0]
    with pytest.raises(ShapeError, match=r"batch sum: got rewards \(2,\) and \(3,\)"):
        batch_sum(chosen, torch.zeros(3), torch.zeros(2))
