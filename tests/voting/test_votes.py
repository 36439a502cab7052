"""Votes: their shapes, and the strength among voters that had not seen the label."""

import numpy as np
import pytest

from outweigh.errors import DataError, ShapeError
from outweigh.voting.votes import Votes, held_out_strength, joined


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


def test_joined_heads_weigh_as_much_as_the_models_at_their_scale():
    rng = np.random.default_rng(0)
    models = Votes(rng.normal(size=(2, 50)), np.zeros((2, 50), dtype=bool))
    heads = Votes(7 * rng.normal(size=(5, 50)), np.ones((5, 50), dtype=bool))
    both = joined(models, heads)
    assert both.gap_MB.shape == both.unseen_MB.shape == (4, 50) and not both.unseen_MB.any()
    np.testing.assert_array_equal(both.gap_MB[:2], models.gap_MB)
    own, theirs = both.gap_MB[:2].mean(0), both.gap_MB[2:].mean(0)
    assert theirs.std() == pytest.approx(own.std())
    by_part = [heads.gap_MB[:3].mean(0), heads.gap_MB[3:].mean(0)]
    np.testing.assert_allclose(np.corrcoef(theirs, np.mean(by_part, axis=0))[0, 1], 1)
