"""Votes from columns of scores."""

import numpy as np
import pytest

from outweigh.errors import DataError
from outweigh.voting.scores import votes_from_scores


def test_a_gap_is_the_models_chosen_score_minus_its_rejected_score():
    votes = votes_from_scores([[1.0, 2.0], [0.0, 5.0]], [[0.5, 3.0], [1.0, 1.0]])
    np.testing.assert_array_equal(votes.gap_MB, [[0.5, -1.0], [-1.0, 4.0]])
    assert votes.unseen_MB.all()


def test_a_pair_that_one_model_did_not_score_is_named():
    with pytest.raises(DataError, match="pair 1: got 1 chosen and 2 rejected"):
        votes_from_scores([[1.0, 2.0], [0.0]], [[0.5, 3.0], [1.0, 1.0]])


def test_a_score_that_is_a_word_is_named():
    with pytest.raises(DataError, match="pair 0"):
        votes_from_scores([["high"]], [[1.0]])


def test_columns_of_different_length_are_refused():
    with pytest.raises(DataError, match="got 2 chosen and 1 rejected"):
        votes_from_scores([[1.0], [2.0]], [[1.0]])
