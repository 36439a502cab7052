"""wrong_probability claims what is seen."""

import numpy as np
import pytest

from outweigh.auditing.noise import NoiseEstimate, estimate_noise
from outweigh.auditing.wrong import wrong_probability
from outweigh.voting.scores import voters_votes
from outweigh.voting.votes import Votes


def drawn(pairs, rate, seed=0):
    rng = np.random.default_rng(seed)
    size = np.abs(rng.normal(size=pairs))
    right_direction = rng.random(pairs) < 1 / (1 + np.exp(-2 * size))
    wrong = rng.random(pairs) < rate
    return np.where(right_direction != wrong, size, -size), wrong


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_as_many_labels_are_wrong_as_it_says(seed):
    strength, wrong = drawn(20000, 0.2, seed)
    claimed = wrong_probability(voters_votes(strength[None]), estimate_noise(strength, np.arange(20000)))
    tenths = np.array_split(np.argsort(claimed), 10)
    # The rate itself is known to about .015, which at a probability of one half is worth .05
    assert np.mean([abs(claimed[tenth].mean() - wrong[tenth].mean()) for tenth in tenths]) < 0.03
    assert claimed.mean() == pytest.approx(wrong.mean(), abs=0.03)


def test_at_strength_0_the_probability_is_the_rate_and_at_the_log_odds_of_the_rate_one_half():
    noise = NoiseEstimate(rate=0.2, low=0.2, high=0.2, slope=1.0, scale=1.0, pairs=3)
    strength = np.array([0.0, np.log(0.2 / 0.8), 1.0, -1.0])
    claimed = wrong_probability(voters_votes(strength[None]), noise)
    np.testing.assert_allclose(claimed[:2], [0.2, 0.5], atol=1e-4)


@pytest.mark.parametrize("apart", [False, True])
def test_a_stronger_pair_is_never_more_probably_wrong(apart):
    strength, _ = drawn(500, 0.1)
    held_out = np.random.default_rng(1).normal(size=500) + strength
    unseen = np.array([[True] * 500, [False] * 500])
    votes = Votes(
        np.stack([held_out, 2 * strength - held_out]), unseen, witness_B=held_out if apart else None
    )
    claimed = wrong_probability(votes, estimate_noise(strength, np.arange(500)))
    assert (np.diff(claimed[np.argsort(strength)]) <= 1e-12).all()


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_witness_apart_from_voters_who_saw_the_labels_says_how_sure_they_may_be(seed):
    witness, wrong = drawn(8000, 0.2, seed)
    own = np.random.default_rng(seed + 10).normal(size=8000)
    strength = np.where(wrong, -1.0, 1.0) + 0.5 + own  # biased to the labels, as if it had learnt them
    noise = estimate_noise(witness, np.arange(8000))
    votes = Votes(strength[None], np.zeros((1, 8000), bool), witness_B=witness)
    claimed = wrong_probability(votes, noise)
    assert claimed.mean() == pytest.approx(noise.rate, abs=1e-6)
    tenths = np.array_split(np.argsort(claimed), 10)
    assert np.mean([abs(claimed[tenth].mean() - wrong[tenth].mean()) for tenth in tenths]) < 0.04


def test_a_noise_estimate_of_0_leaves_probabilities_above_0():
    noise = NoiseEstimate(rate=0.0, low=0.0, high=0.01, slope=2.0, scale=1.0, pairs=2)
    claimed = wrong_probability(voters_votes(np.array([[-1.0, 1.0]])), noise)
    assert (claimed > 0).all() and (claimed < 0.05).all()
