"""Best-of-n against every choice written out."""

from itertools import combinations

import numpy as np
import pytest

from outweigh.errors import DataError, ShapeError
from outweigh.metrics.best_of_n import chance_against_random, divergence_bound, duel_chances, expected_best


def enumerated_best(reward, value):
    """Mean over all choices of n of the mean value of those that share the highest reward."""
    curve = []
    for n in range(1, len(reward) + 1):
        kept = []
        for chosen in combinations(range(len(reward)), n):
            highest = max(reward[each] for each in chosen)
            kept.append(np.mean([value[each] for each in chosen if reward[each] == highest]))
        curve.append(np.mean(kept))
    return curve


def enumerated_duels(reward_a, reward_b, value):
    curve = []
    for n in range(1, len(value) + 1):
        won = []
        for chosen in combinations(range(len(value)), n):
            a, b = (max(chosen, key=lambda each: reward[each]) for reward in (reward_a, reward_b))
            won.append(0.5 * (np.sign(value[a] - value[b]) + 1))
        curve.append(np.mean(won))
    return curve


@pytest.mark.parametrize("levels", [2, 3, 1000])
@pytest.mark.parametrize("count", [1, 2, 5, 7])
def test_the_best_of_n_is_what_enumeration_says_with_and_without_ties(count, levels):
    rng = np.random.default_rng(count * levels)
    reward, value = rng.integers(0, levels, count).astype(float), rng.normal(size=count)
    np.testing.assert_allclose(expected_best(reward, value), enumerated_best(reward, value), atol=1e-12)


@pytest.mark.parametrize("seed", range(5))
def test_a_duel_is_what_enumeration_says(seed):
    rng = np.random.default_rng(seed)
    reward_a, reward_b = rng.normal(size=7), rng.normal(size=7)
    value = rng.integers(0, 4, 7).astype(float)  # golds tie
    expected = enumerated_duels(reward_a, reward_b, value)
    np.testing.assert_allclose(duel_chances(reward_a, reward_b, value), expected, atol=1e-12)


def test_ties_of_a_duel_are_broken_for_each_judge_on_its_own():
    """Of three: a ties its first two, b its last two; their four choices give 1/2, 1, 1 and 1."""
    a, b, value = np.array([1.0, 1.0, 0.0]), np.array([0.0, 1.0, 1.0]), np.array([3.0, 2.0, 1.0])
    found = np.mean([duel_chances(a, b, value, seed=seed)[2] for seed in range(4000)])
    assert found == pytest.approx(0.875, abs=0.02)


def test_of_one_response_it_is_the_mean_and_of_all_the_value_of_the_highest():
    reward, value = np.array([3.0, 1.0, 2.0]), np.array([0.0, 6.0, 3.0])
    curve = expected_best(reward, value)
    assert curve[0] == pytest.approx(3.0)
    # of two: (3, 1) and (3, 2) keep the first, (1, 2) the last: (0 + 0 + 3) / 3
    assert curve[1] == pytest.approx(1.0)
    assert curve[2] == pytest.approx(0.0)


def test_a_model_that_knows_nothing_gains_nothing():
    value = np.array([1.0, 5.0, 2.0, 8.0])
    np.testing.assert_allclose(expected_best(np.zeros(4), value), np.full(4, 4.0))


def test_a_duel_with_oneself_or_over_one_response_is_even():
    reward, value = np.array([1.0, 3.0, 2.0]), np.array([4.0, 1.0, 9.0])
    np.testing.assert_allclose(duel_chances(reward, reward, value), 0.5)
    assert duel_chances(reward, -reward, value)[0] == 0.5


def test_the_two_sides_of_a_duel_add_up_to_one():
    rng = np.random.default_rng(0)
    a, b, value = rng.normal(size=(3, 20))
    np.testing.assert_allclose(duel_chances(a, b, value) + duel_chances(b, a, value), 1.0)


def test_the_gold_itself_as_the_model_wins_every_duel_over_all():
    rng = np.random.default_rng(1)
    value, other = rng.normal(size=(2, 12))
    other[value.argmax()] = -10.0
    assert duel_chances(value, other, value)[-1] == pytest.approx(1.0)


def test_a_thousand_responses_overflow_nothing():
    rng = np.random.default_rng(2)
    value = rng.normal(size=1000)
    curve = expected_best(value, value)
    assert np.isfinite(curve).all() and (np.diff(curve) > 0).all()
    assert curve[0] == pytest.approx(value.mean()) and curve[-1] == pytest.approx(value.max())


def test_against_a_random_one_the_best_loses_only_to_chance():
    # 2 beats both lower ones, ties itself: (1 + 1 + .5) / 3
    np.testing.assert_allclose(chance_against_random(np.array([2.0, 0.0, 0.0])), [2.5 / 3, 1 / 3, 1 / 3])


def test_the_divergence_bound_starts_at_nothing_and_grows_like_log_n():
    np.testing.assert_allclose(divergence_bound(np.array([1, 2, 16])), [0, 0.1931471806, 1.8350887222])


def test_shapes_and_numbers_are_checked():
    with pytest.raises(ShapeError):
        expected_best(np.zeros(3), np.zeros(4))
    with pytest.raises(DataError, match="not finite"):
        expected_best(np.array([1.0, np.nan]), np.zeros(2))
