"""How often the chosen response is put first."""

import numpy as np

from outweigh.metrics.arrays import FloatArray, check_pairs


def correct(gap: FloatArray) -> FloatArray:
    """1 for each pair with a gap above 0, 0 below, and one half for a tie; (B,)."""
    check_pairs(gap=gap)
    return np.heaviside(gap, 0.5)


def accuracy(gap: FloatArray) -> float:
    """Share of pairs whose chosen response has the higher reward; ties count half."""
    return float(correct(gap).mean())


def longer_wins(chosen_length: FloatArray, rejected_length: FloatArray) -> float:
    """Accuracy of the rule "the longer response is the better one"; equal lengths count half.

    A reward model that does not beat this rule on its data may have learnt nothing but length.
    """
    check_pairs(chosen_length=chosen_length, rejected_length=rejected_length)
    return accuracy(chosen_length - rejected_length)
