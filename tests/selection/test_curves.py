"""Best-of-n over many prompts: intervals over prompts, and speed."""

import numpy as np
import pytest

from outweigh.errors import DataError
from outweigh.selection.curves import Candidate, best_of_n


def candidates(prompts, count, noise, seed=0, names=None):
    rng = np.random.default_rng(seed)
    found = []
    for number in range(prompts):
        gold = rng.normal(size=count)
        rewards = {"noisy": gold + noise * rng.normal(size=count), "oracle": gold}
        found.append(Candidate(names[number] if names else str(number), rewards, gold))
    return found


def test_the_interval_covers_the_true_value_of_the_best_of_four():
    """Of four standard normal numbers the largest has mean 1.0294; 60 prompts of 4, a hundred times."""
    covered = 0
    for seed in range(100):
        curve = best_of_n(candidates(60, 4, 0.0, seed)).curves["noisy"].gold
        covered += curve.low[-1] <= 1.0294 <= curve.high[-1]
    assert covered >= 86  # 95 of a hundred, less three standard deviations and what a bootstrap lacks


def test_rows_of_one_prompt_are_resampled_together_and_so_the_interval_is_wider():
    given = candidates(40, 4, 1.0)
    twice = [each for each in given for _ in range(3)]
    apart = [each._replace(prompt=str(place)) for place, each in enumerate(twice)]
    together, loose = (best_of_n(each).curves["noisy"].gold for each in (twice, apart))
    width = [band.high[-1] - band.low[-1] for band in (together, loose)]
    assert width[0] > 1.4 * width[1]


def test_a_reward_that_misleads_at_the_top_is_best_in_the_middle():
    """Gold rises with the reward, but one response in sixteen has a high reward and a gold far below."""
    rng = np.random.default_rng(3)
    given = []
    for number in range(200):
        gold = rng.normal(size=16)
        reward = gold.copy()
        reward[0], gold[0] = 10.0, -6.0
        given.append(Candidate(str(number), {"fooled": reward}, gold))
    curve = best_of_n(given).curves["fooled"]
    assert 1 <= curve.best_n < 6 and curve.over_optimised_from is not None
    assert curve.gold.value[-1] == pytest.approx(-6.0)


def test_without_a_prompt_of_two_there_is_no_curve():
    with pytest.raises(DataError, match="no prompt has 2 responses with gold, the most is 1"):
        best_of_n([Candidate("p", {"m": np.zeros(1)}, np.zeros(1))])
