"""Two models on the same pairs: is one better, or was it luck?"""

from dataclasses import dataclass

from scipy.stats import binomtest

from outweigh.metrics.accuracy import correct
from outweigh.metrics.arrays import FloatArray, check_pairs
from outweigh.metrics.intervals import RESAMPLES, Estimate, Unit, bootstrap_mean


@dataclass(frozen=True, slots=True)
class McNemar:
    """Pairs by who is right, and the probability of a split so uneven between equally good models."""

    both_right: int
    only_a: int
    only_b: int
    both_wrong: int
    both_tied: int
    p_value: float


def paired_bootstrap(
    gap_a: FloatArray, gap_b: FloatArray, unit: Unit, *, resamples: int = RESAMPLES, seed: int = 0
) -> Estimate:
    """Accuracy of a minus accuracy of b, with the interval of resampled units.

    Both models are judged on the same resample, so what makes a pair hard for both cancels.
    """
    check_pairs(gap_a=gap_a, gap_b=gap_b)
    return bootstrap_mean(correct(gap_a) - correct(gap_b), unit, resamples=resamples, seed=seed)


def mcnemar(gap_a: FloatArray, gap_b: FloatArray) -> McNemar:
    """McNemar's exact test: among pairs on which the models differ, is each equally often the better one?

    Two-sided binomial at one half on `only_a` against `only_b`; 1 where they never differ. A tie ranks
    between right and wrong: a tied and b wrong counts for a. It takes pairs as independent, so where many
    share a prompt the p-value is too small; trust the interval by prompt then.
    Source: McNemar 1947, in the exact binomial form.
    """
    check_pairs(gap_a=gap_a, gap_b=gap_b)
    right_a, right_b = correct(gap_a), correct(gap_b)
    same = right_a == right_b
    only_a, only_b = int((right_a > right_b).sum()), int((right_a < right_b).sum())
    return McNemar(
        both_right=int((same & (right_a == 1)).sum()),
        only_a=only_a,
        only_b=only_b,
        both_wrong=int((same & (right_a == 0)).sum()),
        both_tied=int((same & (right_a == 0.5)).sum()),
        p_value=float(binomtest(only_a, only_a + only_b).pvalue) if only_a + only_b else 1.0,
    )
