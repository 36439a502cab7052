"""Two raters on the same items: how far they agree beyond what chance would give."""

import numpy as np
from numpy.typing import NDArray

from outweigh.metrics.arrays import IntArray, check_pairs


def cohen_kappa(one: NDArray[np.float64], other: NDArray[np.float64]) -> float | None:
    """(observed - expected) / (1 - expected) agreement of two ratings (B,) in the same categories.

    Expected is what two raters with these shares of each category would reach by chance. 1 is full
    agreement, 0 that of chance. None where chance alone would agree always: each rater knows one category
    only. Source: Cohen 1960, a coefficient of agreement for nominal scales.
    """
    check_pairs(one=one, other=other)
    names, places = np.unique(np.concatenate([one, other]), return_inverse=True)
    first, second = places[: len(one)], places[len(one) :]
    shares = [_shares(each, len(names)) for each in (first, second)]
    observed, expected = float((first == second).mean()), float(shares[0] @ shares[1])
    return None if expected >= 1.0 else (observed - expected) / (1.0 - expected)


def _shares(places: IntArray, count: int) -> NDArray[np.float64]:
    return np.bincount(places, minlength=count) / len(places)
