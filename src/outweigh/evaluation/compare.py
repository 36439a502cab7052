"""Two models on the same pairs."""

import numpy as np

from outweigh.evaluation.facts import PairFacts
from outweigh.evaluation.results import Comparison
from outweigh.metrics.accuracy import correct
from outweigh.metrics.arrays import FloatArray, check_pairs
from outweigh.metrics.intervals import RESAMPLES, bootstrap_mean
from outweigh.metrics.paired import mcnemar, paired_bootstrap


def compare(
    gap_a: FloatArray, gap_b: FloatArray, facts: PairFacts, *, seed: int = 0, resamples: int = RESAMPLES
) -> Comparison:
    """Accuracies of two models and their difference a - b, from gaps (B,) on the same pairs.

    The three intervals stand on the same resamples. That of the difference is the one to judge by: two
    models whose own intervals overlap can still differ clearly.

    Raises:
        ShapeError: gaps and facts are not one value a pair.
        DataError: a gap is NaN or infinite.
    """
    check_pairs(gap_a=gap_a, gap_b=gap_b, prompt_ids=facts.prompt_ids)
    gap_a, gap_b = gap_a.astype(np.float64), gap_b.astype(np.float64)
    unit = facts.unit()
    return Comparison(
        accuracy_a=bootstrap_mean(correct(gap_a), unit, resamples=resamples, seed=seed),
        accuracy_b=bootstrap_mean(correct(gap_b), unit, resamples=resamples, seed=seed),
        difference=paired_bootstrap(gap_a, gap_b, unit, resamples=resamples, seed=seed),
        mcnemar=mcnemar(gap_a, gap_b),
    )
