"""Noise metrics of hand-made votes."""

import math

import numpy as np
import pytest

from outweigh.auditing.metrics import NOISE_METRICS
from outweigh.voting.votes import Votes

VOTES = Votes(
    gap_MB=np.array([[2.0, 0.0, -1.0], [4.0, 0.0, -3.0]]),
    unseen_MB=np.array([[True, True, False], [False, True, True]]),
    epoch_gap_EB=np.array([[1.0, 0.5, -1.0], [3.0, 0.0, -2.0]]),
)


@pytest.mark.parametrize("name", sorted(NOISE_METRICS.keys() - {"entropy"}))
def test_a_contradicted_label_is_more_doubtful_than_a_supported_one(name):
    supported, neutral, contradicted = NOISE_METRICS[name](VOTES)
    assert contradicted > neutral > supported


def test_values_by_hand():
    values = {name: metric(VOTES) for name, metric in NOISE_METRICS.items()}
    np.testing.assert_allclose(values["weakness"], [-3, 0, 2])
    np.testing.assert_allclose(values["weakness_per_spread"], [-3 / 1, 0, 2 / 1])  # spreads 1, 0, 1
    np.testing.assert_allclose(values["area_under_margin"], [-2, -0.25, 1.5])
    np.testing.assert_allclose(values["held_out_weakness"], [-2, 0, 3])
    assert values["entropy"][1] == pytest.approx(math.log(2))
    assert values["lack_of_self_confidence"][1] == pytest.approx(0.5)
    assert values["loss"][1] == pytest.approx(math.log(2))
    assert values["loss"][2] == pytest.approx((math.log1p(math.e) + math.log1p(math.e**3)) / 2)


def test_entropy_does_not_tell_the_side():
    votes = Votes(np.array([[2.0, -2.0]]), np.ones((1, 2), dtype=bool))
    assert NOISE_METRICS["entropy"](votes)[0] == pytest.approx(NOISE_METRICS["entropy"](votes)[1])


def test_voters_that_came_trained_have_their_strength_as_area():
    votes = Votes(np.array([[2.0, -2.0]]), np.ones((1, 2), dtype=bool))
    np.testing.assert_array_equal(NOISE_METRICS["area_under_margin"](votes), [-2, 2])
