import numpy as np
import pytest

from outweigh.errors import ShapeError
from outweigh.metrics.accuracy import correct
from outweigh.metrics.intervals import Unit, bootstrap_mean
from outweigh.metrics.paired import McNemar, mcnemar, paired_bootstrap


def gaps(both_right=0, only_a=0, only_b=0, both_wrong=0):
    counts = [both_right, only_a, only_b, both_wrong]
    return np.repeat([1.0, 1.0, -1.0, -1.0], counts), np.repeat([1.0, -1.0, 1.0, -1.0], counts)


def by_pair(pairs):
    return Unit("pair", np.arange(pairs), pairs)


def test_mcnemar_is_the_binomial_of_the_pairs_on_which_the_models_differ():
    # P(at most 2 of 10, or at least 8) = 2 (1 + 10 + 45) / 1024.
    expected = McNemar(30, only_a=8, only_b=2, both_wrong=5, both_tied=0, p_value=pytest.approx(112 / 1024))
    assert mcnemar(*gaps(both_right=30, only_a=8, only_b=2, both_wrong=5)) == expected


def test_pairs_on_which_the_models_agree_do_not_change_the_p_value():
    few, many = gaps(only_a=8, only_b=2), gaps(both_right=500, only_a=8, only_b=2, both_wrong=200)
    assert mcnemar(*few).p_value == mcnemar(*many).p_value


def test_models_that_never_differ_have_a_p_value_of_one():
    gap, _ = gaps(both_right=3, both_wrong=2)
    assert mcnemar(gap, 5 * gap).p_value == 1.0


def test_a_tie_ranks_between_right_and_wrong():
    gap_a, gap_b = np.array([0.0, 0.0, 0.0, 1.0]), np.array([-1.0, 1.0, 0.0, 0.0])
    split = mcnemar(gap_a, gap_b)
    assert (split.only_a, split.only_b, split.both_tied) == (2, 1, 1)


def test_the_difference_is_accuracy_a_minus_accuracy_b():
    gap_a, gap_b = gaps(both_right=70, only_a=8, only_b=2, both_wrong=20)
    difference = paired_bootstrap(gap_a, gap_b, by_pair(100))
    assert difference.value == pytest.approx(0.78 - 0.72)
    assert paired_bootstrap(gap_b, gap_a, by_pair(100)).low == pytest.approx(-difference.high)


def test_what_is_hard_for_both_cancels():
    # The variance of a pair's difference is .1 - .06^2 = .0964, of each accuracy alone about .17 to .20.
    gap_a, gap_b = gaps(both_right=70, only_a=8, only_b=2, both_wrong=20)
    difference, alone = (
        paired_bootstrap(gap_a, gap_b, by_pair(100)),
        bootstrap_mean(correct(gap_a), by_pair(100)),
    )
    assert difference.high - difference.low == pytest.approx(2 * 1.96 * np.sqrt(0.0964 / 100), rel=0.1)
    assert difference.high - difference.low < alone.high - alone.low


def test_a_model_against_itself_differs_by_nothing():
    gap, _ = gaps(both_right=5, both_wrong=5)
    difference = paired_bootstrap(gap, gap, by_pair(10))
    assert (difference.value, difference.low, difference.high) == (0.0, 0.0, 0.0)


def test_models_on_different_pairs_are_refused():
    with pytest.raises(ShapeError, match=r"gap_a \(3,\), gap_b \(2,\)"):
        mcnemar(np.ones(3), np.ones(2))
