"""Two models on the same pairs: is one better, or was it luck?"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
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


@dataclass(frozen=True, slots=True)
class Gain:
    """How much better one method is than another over several seeds."""

    value: float
    low: float
    high: float
    p_value: float  # two-sided, of no difference


def gain_over_seeds(
    difference_SB: FloatArray, unit: Unit, *, resamples: int = RESAMPLES, seed: int = 0
) -> Gain:
    """Mean difference over S seeds and B pairs, its interval and p-value when both are drawn anew.

    Each resample draws seeds and units (prompts or pairs) with replacement, so that the interval is of what
    another seed on other pairs would show. The p-value is twice the share of resamples on the other side of
    0, at least 1 / resamples. With one seed the interval says nothing of seeds.

    Source: Sellam et al. 2021, arXiv:2106.16163, the multi-bootstrap, paired.
    """
    seeds = len(difference_SB)
    sums = np.stack([np.bincount(unit.ids, weights=row, minlength=unit.count) for row in difference_SB])
    sizes = np.bincount(unit.ids, minlength=unit.count)
    rng = np.random.default_rng(seed)
    means = np.empty(resamples)
    for place in range(resamples):
        drawn = rng.integers(0, unit.count, size=unit.count)
        means[place] = sums[rng.integers(0, seeds, size=seeds)][:, drawn].sum() / sizes[drawn].sum() / seeds
    low, high = np.quantile(means, [0.025, 0.975])
    other_side = min((means <= 0).mean(), (means >= 0).mean())
    p_value = float(min(1.0, max(2 * other_side, 1 / resamples)))
    return Gain(float(difference_SB.mean()), float(low), float(high), p_value)


def holm(p_values: Sequence[float]) -> list[float]:
    """The p-values corrected for their number, in the order given: reject those under .05 and at most one
    true hypothesis in twenty such tables is rejected.

    Source: Holm 1979, a simple sequentially rejective multiple test procedure.
    """
    corrected, largest = [0.0] * len(p_values), 0.0
    for rank, place in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[place]))
        corrected[place] = largest
    return corrected
