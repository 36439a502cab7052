"""Two models on the same pairs: is one better, or was it luck?"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import binomtest
from scipy.stats import t as student

from outweigh.errors import ShapeError
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


def gain_over_seeds(difference_SB: FloatArray, unit: Unit) -> Gain:
    """Mean difference over S seeds and B pairs, with its interval and p-value for other seeds on other pairs.

        variance = variance of the seeds' means / S  +  variance over units of the mean over seeds

    Both are sampling variances of the mean; adding them counts what seeds and units share twice, so that the
    interval is rather too wide. It is Student's, with Welch and Satterthwaite's degrees of freedom: with few
    seeds, and seeds that disagree, it is wide. With two seeds that disagree far more than pairs do it is
    still too narrow (11 % of null studies at p < .05): take three or more. With one it says nothing of seeds.

    Raises:
        ShapeError: there are not two units to tell a variance by.
    Source: Satterthwaite 1946, an approximate distribution of estimates of variance components.
    """
    seeds, pairs = difference_SB.shape
    value = float(difference_SB.mean())
    if unit.count < 2:
        raise ShapeError(f"gain: got {unit.count} held-out {unit.name}, want two or more.")
    residual = np.bincount(unit.ids, weights=difference_SB.mean(0) - value, minlength=unit.count)
    of_units = float((residual**2).sum()) * unit.count / (unit.count - 1) / pairs**2
    of_seeds = float(difference_SB.mean(1).var(ddof=1)) / seeds if seeds > 1 else 0.0
    variance = of_units + of_seeds
    if variance == 0:  # every pair differs alike on every seed, by nothing as a rule
        return Gain(value, value, value, 1.0 if value == 0 else 0.0)
    freedom = variance**2 / (of_units**2 / (unit.count - 1) + of_seeds**2 / max(1, seeds - 1))
    half = float(student.ppf(0.975, freedom)) * variance**0.5
    p_value = float(2 * student.sf(abs(value) / variance**0.5, freedom))
    return Gain(value, value - half, value + half, p_value)


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
