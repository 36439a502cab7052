"""Whether sigma(gap) is the probability that it claims to be.

Read as a Bradley-Terry model, a gap of d nats says that the label is right with probability sigma(d). All
functions take gaps; to judge a model at temperature T, give them gap / T.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.optimize import brentq
from scipy.special import expit
from scipy.stats import rankdata

from outweigh.metrics.accuracy import correct
from outweigh.metrics.arrays import FloatArray, IntArray, check_pairs

BINS = 10  # of equal mass: 100 pairs leave 10 a bin; more bins only add noise to the error

# Bounds of T against the mean size of the gaps: beyond them sigma(gap / T) is a constant to 1e-6, or a step.
WIDEST_SCALE = 1e6


@dataclass(frozen=True, slots=True)
class ReliabilityBin:
    """Pairs of like confidence: what the model claims, and how often it is right."""

    confidence: float
    accuracy: float
    pairs: int


def log_loss(gap: FloatArray) -> float:
    """Mean of -log sigma(gap), in nats a pair; log 2 for a model that knows nothing."""
    check_pairs(gap=gap)
    return float(np.logaddexp(0.0, -gap).mean())


def brier(gap: FloatArray) -> float:
    """Mean of (1 - sigma(gap))^2; 0.25 for a model that knows nothing."""
    check_pairs(gap=gap)
    return float(np.square(expit(-gap)).mean())


def equal_mass(values: FloatArray, bins: int) -> IntArray:
    """Bin of each value, 0 to bins - 1, with about the same number of values in each; (B,).

    Equal values always share a bin, so the order of the rows does not matter; some bins may be empty.
    """
    check_pairs(values=values)
    middle = rankdata(values) - 0.5  # mean ranks: 0.5 to B - 0.5 where no value recurs
    bin_of: IntArray = (middle * bins / len(values)).astype(np.int64)
    return bin_of


def reliability(
    gap: FloatArray, *, bins: int = BINS, by: Literal["mass", "width"] = "mass"
) -> tuple[ReliabilityBin, ...]:
    """Confidence against accuracy in bins of confidence = sigma(|gap|), lowest first; empty bins left out.

    Bins hold equally many pairs (`mass`), because most gaps are small: bins of equal width over [0.5, 1]
    (`width`) leave the high ones to a handful of pairs. A tie has confidence 0.5 and is half right.
    """
    right, confidence = correct(gap), expit(np.abs(gap))
    if by == "mass":
        bin_of = equal_mass(confidence, bins)
    else:
        bin_of = np.minimum(((confidence - 0.5) * 2 * bins).astype(np.int64), bins - 1)
    pairs = np.bincount(bin_of, minlength=bins)
    confidence_sum = np.bincount(bin_of, weights=confidence, minlength=bins)
    right_sum = np.bincount(bin_of, weights=right, minlength=bins)
    return tuple(
        ReliabilityBin(float(confidence_sum[i] / pairs[i]), float(right_sum[i] / pairs[i]), int(pairs[i]))
        for i in np.flatnonzero(pairs)
    )


def expected_calibration_error(table: tuple[ReliabilityBin, ...]) -> float:
    """Mean over pairs of |accuracy - confidence| of the pair's bin.

    It is biased upwards: the noise of B pairs alone shows a perfectly calibrated model an error of up to
    sqrt(bins / (2 pi B)) on average. Compare it only between models on the same pairs.
    """
    pairs = sum(row.pairs for row in table)
    return sum(row.pairs * abs(row.accuracy - row.confidence) for row in table) / pairs


def fit_temperature(gap: FloatArray) -> float | None:
    """Temperature T > 0 that makes sigma(gap / T) most likely, in units of the gap.

    The log loss is convex in s = 1 / T; its slope, -mean(gap * sigma(-s * gap)), has one root at the most.
    None where it has none: every gap is at or above 0 (T would be 0), or the mean gap is not above 0, so
    that the model is no better than a coin (T would be infinite).
    """
    check_pairs(gap=gap)
    size = float(np.abs(gap).mean())
    if size == 0:
        return None
    unit_gap = gap / size

    def slope(log_s: float) -> float:
        return -float(np.mean(unit_gap * expit(-np.exp(log_s) * unit_gap)))

    low, high = -np.log(WIDEST_SCALE), np.log(WIDEST_SCALE)
    if slope(low) >= 0 or slope(high) <= 0:
        return None
    return size / float(np.exp(brentq(slope, low, high)))


def cross_fitted(gap: FloatArray, groups: IntArray, *, seed: int) -> FloatArray | None:
    """gap / T, where no pair had a part in the temperature that it is divided by; (B,).

    The groups (prompts) are halved at random; each half is divided by the temperature of the other. Fitting
    on one half and reporting on the other alone would throw away half of the pairs, and the calibration
    error needs them: its bias falls as they grow. None with fewer than two groups, or where a half has no
    temperature.
    """
    check_pairs(gap=gap, groups=groups)
    names, group_of = np.unique(groups, return_inverse=True)
    if len(names) < 2:
        return None
    second = np.random.default_rng(seed).permutation(len(names))[group_of] >= len(names) // 2
    temperature_first, temperature_second = fit_temperature(gap[~second]), fit_temperature(gap[second])
    if temperature_first is None or temperature_second is None:
        return None
    return gap / np.where(second, temperature_first, temperature_second)
