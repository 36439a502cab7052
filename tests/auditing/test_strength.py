"""Preference strength."""

import numpy as np

from outweigh.auditing.strength import preference_strength


def test_spread_divides_by_the_number_of_voters():
    strength = preference_strength(np.array([[1.0, -2.0], [3.0, -2.0]]))
    np.testing.assert_array_equal(strength.mean, [2.0, -2.0])
    np.testing.assert_array_equal(
        strength.spread, [1.0, 0.0]
    )  # sqrt((1 + 1) / 2); divisor 1 would give sqrt 2


def test_one_voter_has_no_spread():
    assert preference_strength(np.array([[4.0]])).spread == [0.0]
