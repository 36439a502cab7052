"""Intervals by the bootstrap, over prompts where there are enough of them, else over pairs.

Pairs of one prompt share its difficulty, so they are not independent: resampling pairs makes intervals too
narrow. Resampling whole prompts is right, but needs a number of them.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from outweigh.metrics.arrays import FloatArray, IntArray, check_pairs

RESAMPLES = 2000  # a 95 % limit then stands on 50 replicates
LEVEL = 0.95
MIN_PROMPTS = 30  # there 95 % intervals were seen to cover 92 % (by pair: 64 %); with fewer prompts less
LARGEST_DRAW = 4_000_000  # indices held at once: 32 MB
MAX_UNDEFINED = 0.1  # share of resamples without a value, above which the rest no longer stands for all

UnitName = Literal["prompt", "pair"]


@dataclass(frozen=True, slots=True)
class Unit:
    """What is resampled: its name, and for each pair which one it belongs to, 0 to count - 1; (B,)."""

    name: UnitName
    ids: IntArray
    count: int


@dataclass(frozen=True, slots=True)
class Estimate:
    """A value and its 95 % interval; the limits are None where there is nothing to resample."""

    value: float | None
    low: float | None
    high: float | None
    unit: UnitName
    count: int  # of units
    pairs: int


def choose_unit(prompt_ids: NDArray[Any], pair_ids: NDArray[Any] | None = None) -> Unit:
    """Prompts as the unit where there are 30 or more of them, else pairs, of which copies are one.

    Ids are (B,); equal `pair_ids` are copies of one pair. Without them no pair has a copy.
    """
    names, ids = np.unique(prompt_ids, return_inverse=True)
    if len(names) >= MIN_PROMPTS:
        return Unit("prompt", ids.astype(np.int64), len(names))
    pairs, ids = np.unique(np.arange(len(prompt_ids)) if pair_ids is None else pair_ids, return_inverse=True)
    return Unit("pair", ids.astype(np.int64), len(pairs))


@dataclass(frozen=True, slots=True)
class Band:
    """The values of a curve with their 95 % intervals; the limits are None where nothing can be resampled."""

    value: list[float]
    low: list[float] | None
    high: list[float] | None


def bootstrap_mean(values: FloatArray, unit: Unit, *, resamples: int = RESAMPLES, seed: int = 0) -> Estimate:
    """Mean over pairs, with the percentile interval of resampled units.

    A resample's mean is its sum of values over its number of pairs, a ratio of sums: units of unequal size
    weigh as they do in the mean itself. Where all values are equal the interval has no width, which says
    more about the bootstrap than about the model.
    """
    check_pairs(values=values, unit=unit.ids)
    band = bootstrap_means(values[:, None], unit, resamples=resamples, seed=seed)
    low, high = (limit[0] if limit else None for limit in (band.low, band.high))
    return Estimate(band.value[0], low, high, unit.name, unit.count, len(values))


def bootstrap_means(values_BN: FloatArray, unit: Unit, *, resamples: int = RESAMPLES, seed: int = 0) -> Band:
    """Mean over B pairs of each of N columns, with the intervals of units resampled for all columns alike."""
    mean_N = values_BN.mean(axis=0)
    if unit.count < 2:
        return Band(mean_N.tolist(), None, None)
    low, high = _limits(_resampled_means(values_BN, unit, resamples, seed))
    return Band(mean_N.tolist(), low.tolist(), high.tolist())


def fallen(
    values_BN: FloatArray, unit: Unit, *, resamples: int = RESAMPLES, seed: int = 0
) -> NDArray[np.bool_]:
    """Marks, of N columns in an order, those whose mean over B pairs is below that of one before them by more
    than chance; (N,).

    That is by more than the largest such fall of a resample, less what is fallen in truth, in all but 2.5 %
    of them: for all columns at once, whichever before them is the highest.
    """
    mean_N = values_BN.mean(axis=0)
    if unit.count < 2:
        return np.zeros(len(mean_N), dtype=bool)
    chance_RN = _resampled_means(values_BN, unit, resamples, seed) - mean_N
    largest_R = (np.maximum.accumulate(chance_RN, axis=1) - chance_RN).max(axis=1)
    fall_N = np.maximum.accumulate(mean_N) - mean_N
    return np.asarray(fall_N > np.quantile(largest_R, (1 + LEVEL) / 2))


def _resampled_means(values_BN: FloatArray, unit: Unit, resamples: int, seed: int) -> FloatArray:
    """The means of each of so many resamples, (R, N)."""
    sums_UN = np.zeros((unit.count, values_BN.shape[1]))
    np.add.at(sums_UN, unit.ids, values_BN)
    sizes_U = np.bincount(unit.ids, minlength=unit.count)
    rng = np.random.default_rng(seed)
    chunk = max(1, LARGEST_DRAW // unit.count)
    means = []
    for start in range(0, resamples, chunk):
        rows = min(chunk, resamples - start)
        drawn = rng.integers(0, unit.count, size=(rows, unit.count))
        drawn += np.arange(rows)[:, None] * unit.count
        times_RU = np.bincount(drawn.ravel(), minlength=rows * unit.count).reshape(rows, unit.count)
        times_RU = times_RU.astype(np.float64)  # integers have no fast matrix product
        means.append(times_RU @ sums_UN / (times_RU @ sizes_U)[:, None])
    found_RN: FloatArray = np.concatenate(means)
    return found_RN


def bootstrap(
    statistic: Callable[[IntArray], float | None], unit: Unit, *, resamples: int = RESAMPLES, seed: int = 0
) -> Estimate:
    """Any statistic of the pairs at the given indices, with the percentile interval of resampled units.

    For what is not a mean: `bootstrap(lambda pairs: spearman(x[pairs], y[pairs]), unit)`. The limits are
    None where more than a tenth of the resamples have no value.
    """
    pairs = len(unit.ids)
    value = statistic(np.arange(pairs))
    if value is None or unit.count < 2:
        return Estimate(value, None, None, unit.name, unit.count, pairs)
    order = np.argsort(unit.ids, kind="stable")
    sizes = np.bincount(unit.ids, minlength=unit.count)
    starts = np.cumsum(sizes) - sizes
    rng = np.random.default_rng(seed)
    replicates = []
    for _ in range(resamples):
        drawn = rng.integers(0, unit.count, size=unit.count)
        size = sizes[drawn]
        first = np.repeat(starts[drawn] - (np.cumsum(size) - size), size)
        replicates.append(statistic(order[first + np.arange(len(first))]))
    defined = [replicate for replicate in replicates if replicate is not None]
    if len(defined) < (1 - MAX_UNDEFINED) * resamples:
        return Estimate(value, None, None, unit.name, unit.count, pairs)
    low, high = _limits(np.array(defined))
    return Estimate(value, float(low), float(high), unit.name, unit.count, pairs)


def _limits(replicates: FloatArray) -> tuple[FloatArray, FloatArray]:
    tail = (1 - LEVEL) / 2
    low, high = np.quantile(replicates, [tail, 1 - tail], axis=0)
    return low, high
