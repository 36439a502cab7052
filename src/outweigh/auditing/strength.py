"""The preference strength of each pair."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from outweigh.metrics.arrays import FloatArray


class Strength(NamedTuple):
    """Mean and population std over the voters, both (B,), in nats."""

    mean: FloatArray  # below 0 the ensemble contradicts the label
    spread: FloatArray


def preference_strength(gap_MB: NDArray[np.floating]) -> Strength:
    """Mean and std (divisor M) over M voters of each pair's gap, from gaps (M, B) in nats.

    Source: Wang et al. 2024, arXiv:2401.06080, section 2.2.
    """
    return Strength(gap_MB.mean(axis=0, dtype=np.float64), gap_MB.std(axis=0, dtype=np.float64))
