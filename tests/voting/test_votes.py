"""Votes: their shapes, and the strength among voters that had not seen the label."""

import numpy as np
import pytest

from outweigh.errors import DataError, ShapeError
from outweigh.voting.votes import Votes, held_out_strength


def test_held_out_strength_is_the_mean_over_unseen_voters_and_over_all_where_there_are_none():
    gap_MB = np.array([[1.0, 2.0], [3.0, 4.0], [8.0, -6.0]])
    unseen_MB = np.array([[True, False], [False, False], [True, False]])
    held_out = held_out_strength(Votes(gap_MB, unseen_MB))
    np.testing.assert_allclose(held_out, [(1 + 8) / 2, (2 + 4 - 6) / 3])


def test_gaps_and_unseen_marks_of_different_shape_are_refused():
    with pytest.raises(ShapeError, match=r"gaps \(2, 3\) and unseen \(2, 2\)"):
        Votes(np.zeros((2, 3)), np.zeros((2, 2), dtype=bool))


def test_one_dimensional_gaps_are_refused():
    with pytest.raises(ShapeError, match=r"\(M, B\)"):
        Votes(np.zeros(3), np.zeros(3, dtype=bool))


def test_a_gap_that_is_not_finite_names_its_voter_and_pair():
    gap_MB = np.array([[0.0, 0.0], [0.0, np.inf]])
    with pytest.raises(DataError, match="voter 1 on pair 1"):
        Votes(gap_MB, np.ones((2, 2), dtype=bool))
