"""Whether larger gaps go with stronger preferences (or only with longer responses)."""

from collections.abc import Callable

import numpy as np
from scipy import stats

from outweigh.metrics.arrays import FloatArray, check_pairs


def spearman(x: FloatArray, y: FloatArray) -> float | None:
    """Spearman's rho: Pearson's r of the ranks, ties given their mean rank; None if either is constant."""
    return _coefficient(stats.spearmanr, x, y)


def kendall(x: FloatArray, y: FloatArray) -> float | None:
    """Kendall's tau-b; None if either is constant.

        tau_b = (concordant - discordant) / sqrt((n0 - ties in x) (n0 - ties in y)),  n0 = B (B - 1) / 2

    The b form, because votes and ratings take few values, so that most pairs of pairs tie.
    """
    return _coefficient(stats.kendalltau, x, y)


def pearson(x: FloatArray, y: FloatArray) -> float | None:
    """Pearson's r; None if either is constant."""
    return _coefficient(stats.pearsonr, x, y)


def _coefficient(measure: Callable[..., object], x: FloatArray, y: FloatArray) -> float | None:
    check_pairs(x=x, y=y)
    if _constant(x) or _constant(y):
        return None
    value = float(measure(x, y).statistic)  # type: ignore[attr-defined]  # scipy has no types
    return value if np.isfinite(value) else None


def _constant(values: FloatArray) -> bool:
    # Differences in the last bits are rounding, not order: their ranks would correlate with anything.
    return bool(np.ptp(values) <= 1e-12 * np.abs(values).max())
