"""wrong_probability claims what is seen."""

import numpy as np
import pytest

from outweigh.auditing.noise import NoiseEstimate, estimate_noise
from outweigh.auditing.wrong import wrong_probability


def drawn(pairs, rate, seed=0):
    rng = np.random.default_rng(seed)
    size = np.abs(rng.normal(size=pairs))
    right_direction = rng.random(pairs) < 1 / (1 + np.exp(-2 * size))
    wrong = rng.random(pairs) < rate
    return np.where(right_direction != wrong, size, -size), wrong


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_as_many_labels_are_wrong_as_it_says(seed):
    strength, wrong = drawn(20000, 0.2, seed)
    claimed = wrong_probability(strength, strength, estimate_noise(strength, np.arange(20000)))
    tenths = np.array_split(np.argsort(claimed), 10)
    # The rate itself is known to about .015, which at a probability of one half is worth .05
    assert np.mean([abs(claimed[tenth].mean() - wrong[tenth].mean()) for tenth in tenths]) < 0.03
    assert claimed.mean() == pytest.approx(wrong.mean(), abs=0.03)


def test_at_strength_0_the_probability_is_the_rate_and_at_the_log_odds_of_the_rate_one_half():
    noise = NoiseEstimate(rate=0.2, low=0.2, high=0.2, slope=1.0, scale=1.0, pairs=3)
    strength = np.array([0.0, np.log(0.2 / 0.8), 1.0, -1.0])
    claimed = wrong_probability(strength, strength, noise)
    np.testing.assert_allclose(claimed[:2], [0.2, 0.5], atol=1e-4)


def test_a_stronger_pair_is_never_more_probably_wrong():
    strength, _ = drawn(500, 0.1)
    held_out = np.random.default_rng(1).normal(size=500)
    claimed = wrong_probability(strength, held_out + strength, estimate_noise(strength, np.arange(500)))
    assert (np.diff(claimed[np.argsort(strength)]) <= 1e-12).all()


def test_a_noise_estimate_of_0_leaves_probabilities_above_0():
    noise = NoiseEstimate(rate=0.0, low=0.0, high=0.01, slope=2.0, scale=1.0, pairs=2)
    claimed = wrong_probability(np.array([-1.0, 1.0]), np.array([-1.0, 1.0]), noise)
    assert (claimed > 0).all() and (claimed < 0.05).all()
