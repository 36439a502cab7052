import math

import numpy as np
import pytest

from outweigh.errors import ShapeError
from outweigh.metrics.correlation import kendall, pearson, spearman

X, TIED = np.array([1.0, 2.0, 3.0, 4.0]), np.array([0.0, 0.0, 5.0, 5.0])


def test_tau_b_corrects_for_ties():
    # Of 6 pairs 4 are concordant, none discordant, 2 tie in y: 4 / sqrt(6 (6 - 2)).
    assert kendall(X, TIED) == pytest.approx(4 / math.sqrt(24))


def test_spearman_gives_ties_their_mean_rank():
    # Ranks -1.5 -.5 .5 1.5 against -1 -1 1 1 about their mean: 4 / sqrt(5 * 4).
    assert spearman(X, TIED) == pytest.approx(4 / math.sqrt(20))


def test_pearson_by_hand():
    # Deviations -1 0 1 and -1 -1 2: 3 / sqrt(2 * 6).
    assert pearson(np.array([1.0, 2.0, 3.0]), np.array([0.0, 0.0, 3.0])) == pytest.approx(3 / math.sqrt(12))


def test_rank_correlations_see_only_order():
    y = np.exp(X * 3)
    assert spearman(X, y) == pytest.approx(1)
    assert kendall(X, y) == pytest.approx(1)
    assert pearson(X, y) < 0.9


@pytest.mark.parametrize("measure", [spearman, kendall, pearson])
def test_reversing_one_column_reverses_the_sign(measure):
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=50), rng.integers(-2, 3, 50).astype(float)
    assert measure(x, -y) == pytest.approx(-measure(x, y))


@pytest.mark.parametrize("measure", [spearman, kendall, pearson])
def test_a_constant_column_or_a_single_pair_has_no_correlation(measure):
    assert measure(X, np.full(4, 2.0)) is None
    assert measure(np.full(4, 0.0), X) is None
    assert measure(np.array([1.0]), np.array([2.0])) is None


@pytest.mark.parametrize("measure", [spearman, kendall, pearson])
def test_rounding_is_not_order(measure):
    assert measure(1 + 1e-15 * X, X) is None


def test_columns_of_different_length_are_refused():
    with pytest.raises(ShapeError, match=r"x \(4,\), y \(3,\)"):
        spearman(X, X[:3])
