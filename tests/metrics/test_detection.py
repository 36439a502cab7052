import numpy as np
import pytest

from outweigh.metrics.detection import Flagged, auroc, average_precision, precision_recall

SCORE, WRONG = np.array([0.9, 0.8, 0.8, 0.1]), np.array([True, False, True, False])


def test_auroc_counts_ties_half():
    # Wrong .9 beats .8 and .1; wrong .8 ties .8 and beats .1: (1 + 1 + .5 + 1) / 4.
    assert auroc(SCORE, WRONG) == pytest.approx(3.5 / 4)


def test_a_score_that_knows_nothing_has_an_auroc_of_one_half():
    assert auroc(np.zeros(4), WRONG) == 0.5


def test_turning_the_score_over_turns_auroc_over():
    rng = np.random.default_rng(0)
    score, wrong = rng.normal(size=200), rng.random(200) < 0.2
    assert auroc(score, wrong) + auroc(-score, wrong) == pytest.approx(1)


def test_auroc_of_one_class_has_no_value():
    assert auroc(SCORE, np.zeros(4, dtype=bool)) is None
    assert auroc(SCORE, np.ones(4, dtype=bool)) is None


def test_average_precision_by_hand():
    # At .9: precision 1, recall 1/2. At .8: precision 2/3, recall 1.
    assert average_precision(SCORE, WRONG) == pytest.approx(1 / 2 * 1 + 1 / 2 * 2 / 3)


def test_average_precision_without_signal_is_the_share_of_wrong_labels():
    assert average_precision(np.zeros(4), np.array([True, False, False, False])) == pytest.approx(0.25)
    assert average_precision(SCORE, np.zeros(4, dtype=bool)) is None


def test_precision_and_recall_include_the_threshold_itself():
    assert precision_recall(SCORE, WRONG, 0.8) == Flagged(2 / 3, 1.0, flagged=3, found=2, wrong=2)
    assert precision_recall(SCORE, WRONG, 0.85) == Flagged(1.0, 0.5, flagged=1, found=1, wrong=2)


def test_precision_of_nothing_flagged_and_recall_of_nothing_wrong_have_no_value():
    assert precision_recall(SCORE, WRONG, 2.0) == Flagged(None, 0.0, flagged=0, found=0, wrong=2)
    assert precision_recall(SCORE, np.zeros(4, dtype=bool), 0.8).recall is None
