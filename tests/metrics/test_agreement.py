"""Cohen's kappa, by hand and at its limits."""

import numpy as np
import pytest

from outweigh.errors import ShapeError
from outweigh.metrics.agreement import cohen_kappa


def test_kappa_of_a_table_counted_by_hand():
    # 20 both yes, 15 both no, 5 and 10 apart: observed .7, expected .5 * .6 + .5 * .4 = .5, kappa .4
    one = np.array([1] * 25 + [0] * 25, dtype=float)
    other = np.array([1] * 20 + [0] * 5 + [1] * 10 + [0] * 15, dtype=float)
    assert cohen_kappa(one, other) == pytest.approx(0.4)


def test_full_agreement_is_one_and_full_disagreement_of_even_shares_minus_one():
    one = np.array([0.0, 1.0, 0.0, 1.0])
    assert cohen_kappa(one, one) == 1.0
    assert cohen_kappa(one, 1.0 - one) == -1.0


def test_independent_raters_are_near_zero_whatever_their_shares():
    rng = np.random.default_rng(0)
    one, other = (rng.random(20_000) < 0.9).astype(float), (rng.random(20_000) < 0.8).astype(float)
    assert abs(cohen_kappa(one, other)) < 0.03


def test_raters_of_one_category_have_no_kappa():
    assert cohen_kappa(np.ones(4), np.ones(4)) is None


def test_shapes_are_checked():
    with pytest.raises(ShapeError):
        cohen_kappa(np.ones(3), np.ones(4))
