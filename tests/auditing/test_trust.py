"""The trust gate on voters of known ability."""

import dataclasses

import numpy as np
import pytest

from outweigh.auditing.audit import audit
from outweigh.auditing.noise import NoiseEstimate, limited_noise
from outweigh.auditing.trust import Trial, auroc_with_error, estimate_trust, planted_flips, reliability
from outweigh.errors import DataError
from outweigh.metrics.detection import auroc
from outweigh.voting.scores import voters_votes
from outweigh.voting.votes import Votes

PAIRS = 4000
CLEAN = NoiseEstimate(rate=0.0, low=0.0, high=0.01, slope=2.0, scale=1.0, pairs=PAIRS)


def reader(ability, seed=0):
    """Voters for whom the better text of a pair is worth `ability` more, give or take."""
    noise = np.random.default_rng(seed).normal(size=(5, PAIRS))
    gap = ability + 2**0.5 * (noise.mean(axis=0) + 0.1 * noise)
    return lambda swapped: voters_votes(np.where(swapped, -gap, gap))


def trust(ability, noise=CLEAN, wrong=False, **known):
    flipped = planted_flips(PAIRS, seed=0)
    return estimate_trust(Trial(flipped, reader(ability)(flipped ^ wrong)), noise=noise, **known)


def test_voters_who_know_the_labels_are_trusted_and_voters_who_do_not_are_not():
    able, ignorant = trust(2.0), trust(0.0)
    assert able.repair and able.auroc > 0.95
    assert not ignorant.repair and ignorant.low < 0.5 < ignorant.high
    assert "under 0.8" in ignorant.reason


def test_noise_that_the_data_has_by_itself_is_undone():
    swapped = planted_flips(PAIRS, seed=7, share=0.2)
    known = NoiseEstimate(rate=0.2, low=0.2, high=0.2, slope=2.0, scale=1.0, pairs=PAIRS)
    noisy = trust(1.0, noise=known, wrong=swapped)
    assert noisy.observed < trust(1.0).auroc - 0.1
    assert noisy.low < trust(1.0).auroc < noisy.high


def test_voters_no_better_than_the_length_rule_are_not_trusted():
    verdict = trust(2.0, agreement=0.6, rule_agreement=0.62)
    assert not verdict.repair and "length (0.620)" in verdict.reason
    assert trust(2.0, agreement=0.65, rule_agreement=0.62).repair


def test_too_few_pairs_to_plant_flips_in_are_refused():
    few = Trial(planted_flips(20, seed=0), voters_votes(np.ones((1, 20))))
    with pytest.raises(DataError, match="got 20 pairs, want at least 100"):
        estimate_trust(few, noise=CLEAN)


def test_a_tenth_of_the_labels_is_planted_and_the_same_with_the_same_seed():
    flipped = planted_flips(1000, seed=3)
    assert flipped.sum() == 100
    np.testing.assert_array_equal(flipped, planted_flips(1000, seed=3))


def test_the_error_of_the_auroc_by_hand_and_by_resampling():
    score, wrong = np.array([3.0, 1.0, 2.0, 0.0, 1.0]), np.array([True, True, False, False, False])
    value, _ = auroc_with_error(score, wrong)
    assert value == pytest.approx((3 + (1 + 0.5)) / 6)  # 3 beats all three; 1 beats 0 and ties with 1
    assert value == pytest.approx(auroc(score, wrong))
    rng = np.random.default_rng(0)
    wrong = rng.random(400) < 0.3
    values = [auroc_with_error(rng.normal(size=400) + wrong, wrong) for _ in range(300)]
    spread = np.std([value for value, _ in values])
    assert np.mean([error for _, error in values]) == pytest.approx(spread, rel=0.2)


def test_what_is_claimed_of_planted_flips_is_seen():
    flipped = planted_flips(PAIRS, seed=1, share=0.2)
    votes = reader(1.5)(flipped)
    for row in reliability(votes, flipped, rate=0.0):
        # 400 pairs: a share of .5 has std .025; the voters' noise is normal, the model's logistic
        assert row.observed == pytest.approx(row.predicted, abs=0.15)


def full_voters(rate, witness, ability, seed, pairs=1500):
    """A voter that has learnt the labels beside the truth, a witness apart, and which labels are wrong."""
    rng = np.random.default_rng(seed)
    wrong, own, other = rng.random(pairs) < rate, rng.normal(size=pairs), rng.normal(size=pairs)

    def vote(swapped):
        truth = np.where(wrong ^ swapped, -1, 1)
        gap, apart = truth * ability + 1.0 + own, truth * (witness + other)
        return Votes(gap[None], np.zeros((1, pairs), bool), witness_B=apart)

    return vote, wrong


@pytest.mark.parametrize("seed", range(5))
def test_a_weak_witness_makes_strong_voters_flip_no_right_labels(seed):
    vote, wrong = full_voters(0.0, 0.2, 2.0, seed)
    flipped = planted_flips(1500, seed)
    trial = Trial(flipped, vote(flipped))
    found = audit(vote(wrong), group_B=np.arange(1500), trial=trial, seed=seed)
    assert found.noise.rate < 0.02 and not (found.wrong_probability > 0.5).any()


@pytest.mark.parametrize("rate", [0.1, 0.2, 0.3])
def test_planted_flips_bring_the_rate_under_a_limit_near_the_truth(rate):
    limits = []
    for seed in range(10):
        vote, wrong = full_voters(rate, 0.2, 2.0, seed)
        flipped = planted_flips(1500, seed)
        highest = dataclasses.replace(CLEAN, rate=0.49, low=0.0, high=0.49)
        limits.append(limited_noise(highest, vote(flipped).gap_MB[0], flipped).rate - wrong.mean())
    assert np.mean(np.array(limits) > -0.01) >= 0.9 and np.mean(limits) < 0.08


def test_the_least_of_the_limits_holds_in_more_than_95_percent_of_samples():
    # With each line's own 97.5 % limit, the least of nine missed 7 % of these
    highest, below = dataclasses.replace(CLEAN, rate=0.49, low=0.0, high=0.49), 0
    for seed in range(400):
        rng = np.random.default_rng(seed)
        wrong, flipped = rng.random(500) < 0.35, planted_flips(500, seed)
        ability = 4.0 * rng.exponential(size=500)
        strength = np.where(wrong ^ flipped, -1, 1) * ability + 1.0 + rng.normal(size=500)
        below += limited_noise(highest, strength, flipped).high < wrong.mean()
    assert below <= 10  # 2.5 %


def test_voters_who_know_nothing_limit_nothing():
    rng = np.random.default_rng(0)
    noise = dataclasses.replace(CLEAN, rate=0.3, high=0.4)
    assert limited_noise(noise, rng.normal(size=PAIRS), planted_flips(PAIRS, 0)) == noise


def test_a_limit_under_the_whole_interval_leaves_its_lower_end_open():
    flipped = planted_flips(PAIRS, 0)
    strength = np.where(flipped, -1.0, 1.0) + np.random.default_rng(0).normal(0, 0.1, PAIRS)
    claimed = NoiseEstimate(rate=0.3, low=0.25, high=0.35, slope=1.0, scale=1.0, pairs=PAIRS)
    found = limited_noise(claimed, strength, flipped)
    assert found.low == 0.0 < found.rate == found.high < 0.1
