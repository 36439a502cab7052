import numpy as np
import pytest

from outweigh.errors import DataError, ShapeError
from outweigh.metrics.accuracy import accuracy, longer_wins
from outweigh.metrics.arrays import check_pairs


def test_a_column_against_a_row_is_refused_and_not_broadcast():
    with pytest.raises(
        ShapeError, match=r"chosen_length \(2, 1\), rejected_length \(2,\); want one shape \(B,\)"
    ):
        longer_wins(np.zeros((2, 1)), np.zeros(2))


def test_no_pairs_at_all_are_refused():
    with pytest.raises(ShapeError, match=r"gap \(0,\)"):
        accuracy(np.zeros(0))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_value_that_is_not_finite_is_named_with_its_pair(value):
    with pytest.raises(DataError, match=f"gap is not finite, got {value} at pair 1"):
        check_pairs(gap=np.array([0.0, value, 2.0]))
