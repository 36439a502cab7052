"""How many labels of a file are wrong, from strengths by voters that had not seen them."""

from dataclasses import dataclass, replace

import numpy as np
from scipy.special import expit
from scipy.stats import norm

from outweigh.errors import DataError
from outweigh.metrics.arrays import BoolArray, FloatArray, IntArray

MIN_PAIRS = 100  # with fewer, the most confident tenth is under ten pairs
BINS = 100  # of |strength|, with equally many pairs each
RESAMPLES = 400
RATES = np.linspace(0.0, 0.49, 50)
SLOPES = np.geomspace(0.01, 8.0, 90)
# Log-normal: median, and std of the logarithm. Voters on data of known noise had 1.2 to 3.5. The prior does
# not matter up to 30 % noise; at 40 % on `sense` it moved one estimate from 0.02 to 0.33.
SLOPE_PRIOR, SLOPE_PRIOR_STD = 1.9, 1.0
LINES = np.arange(1, 10) / 10  # of the planted flips
EACH_LINE = float(norm.ppf(1 - 0.025 / len(LINES)))  # standard errors: all limits at once hold in 97.5 %
SUPPORTED = 1.92  # nats of log likelihood under the best: half the 95 % point of chi square with one degree


@dataclass(frozen=True, slots=True)
class NoiseEstimate:
    """The share of wrong labels in [0, 0.5), its 95 % interval, and the model behind it."""

    rate: float
    low: float
    high: float
    slope: float  # nats of log-odds that the ensemble's direction is right, per root mean square of strength
    scale: float  # root mean square of the held-out strength, in its own nats
    pairs: int


def estimate_noise(held_out_B: FloatArray, group_B: IntArray, *, seed: int = 0) -> NoiseEstimate:
    """The share of wrong labels among B pairs, from their held-out strengths (B,), in nats.

    A voter that has not seen a label can't lean towards it. So a pair's strength s has a size a = |s|, and a
    direction that is the true one with probability sigma(slope * a / scale), whatever the label; and labels
    are wrong at one `rate`, whatever the pair. Then label and direction disagree with probability

        rate + (1 - 2 rate) * sigma(-slope * a / scale),

    whose floor, at the most confident pairs, is the rate. Both parameters have the highest posterior under a
    uniform prior of the rate and a log-normal one of the slope. The interval holds every rate that some slope
    explains about as well as the best (profile likelihood, without the prior), and draws from the posteriors
    of resampled groups: all rates where voters know nothing, and somewhat too wide where they know much.

    It counts labels that contradict what the features can tell, spread evenly. Wrong labels that crowd on
    hard pairs are counted short, and what all annotators get wrong in the same way can't be seen at all.

    Raises:
        DataError: fewer than 100 pairs, or a strength that is not finite.
    Source: ours. The form is the lapse rate of psychometric functions.
    """
    if len(held_out_B) < MIN_PAIRS:
        raise DataError(
            f"noise estimate: got {len(held_out_B)} pairs, want at least {MIN_PAIRS}. Give more pairs."
        )
    if lost := int((~np.isfinite(held_out_B)).sum()):
        raise DataError(f"noise estimate: strengths that are not finite: {lost}. Check the voters' scores.")
    size_B = np.abs(held_out_B)
    scale = max(float(np.sqrt(np.mean(size_B**2))), 1e-12)
    order = np.argsort(size_B, kind="stable")
    bin_B = np.empty(len(order), dtype=np.int64)
    bin_B[order] = np.arange(len(order)) * BINS // len(order)
    center = np.bincount(bin_B, size_B, BINS) / np.bincount(bin_B, minlength=BINS) / scale
    disagrees_B = np.where(held_out_B == 0, 0.5, held_out_B < 0)
    table = _log_likelihoods(center)
    prior = np.tile(-0.5 * (np.log(SLOPES / SLOPE_PRIOR) / SLOPE_PRIOR_STD) ** 2, len(RATES))
    log_likelihood = table @ _counts(bin_B, disagrees_B, np.ones(len(order)))
    best = int(np.argmax(log_likelihood + prior))
    profile = log_likelihood.reshape(len(RATES), -1).max(axis=1)
    supported = RATES[profile >= profile.max() - SUPPORTED]
    rng = np.random.default_rng(seed)
    log_posterior = _resampled_counts(bin_B, disagrees_B, group_B, rng) @ table.T + prior
    gumbel = rng.gumbel(size=log_posterior.shape)  # the largest sum is a draw from the posterior
    drawn = RATES[np.argmax(log_posterior + gumbel, axis=1) // len(SLOPES)]
    low, high = np.quantile(drawn, [0.025, 0.975])
    rate = float(RATES[best // len(SLOPES)])
    return NoiseEstimate(
        rate,
        float(min(low, supported.min(), rate)),
        float(max(high, supported.max(), rate)),
        float(SLOPES[best % len(SLOPES)]),
        scale,
        len(order),
    )


def limited_noise(noise: NoiseEstimate, strength_B: FloatArray, flipped_B: BoolArray) -> NoiseEstimate:
    """The estimate, brought under what planted flips (marks (B,)) allow, from the voters' strengths (B,).

    Say a share u of the labels left alone, and a share p of the planted flips, is as doubtful as this or
    more. Wrong labels are a share `rate` of the first and 1 - rate of the second, and right ones can't be
    fewer than none, so that

        rate <= u / (u + p)

    wherever the line is drawn. It is near the truth where hardly a right label is that doubtful; where voters
    know nothing it allows one half. Lines are drawn at tenths of the planted flips, each with an upper limit
    of its ratio, so wide that all nine hold at once in 97.5 % of samples (Bonferroni): the least of them is
    taken. A witness on weak features may claim more wrong labels than strong voters can miss. The limit is
    from above alone: where it contradicts the whole interval, the lower end becomes 0.

    Source: ours; the bound is that of mutually contaminated samples (Scott et al. 2013, COLT, Classification
    with Asymmetric Label Noise).
    """
    planted_P, other_U = np.sort(strength_B[flipped_B]), np.sort(strength_B[~flipped_B])
    line = np.quantile(planted_P, LINES)
    planted = np.searchsorted(planted_P, line, side="right")
    other = np.searchsorted(other_U, line, side="right") + 0.5  # none seen is not none there
    p, u = planted / len(planted_P), np.minimum(other / len(other_U), 1.0)
    error = np.sqrt((1 - p) / planted + (1 - u) / other)
    most = u / p * np.exp(EACH_LINE * error)
    limit = float((most / (1 + most)).min())
    rate, high = min(noise.rate, limit), min(noise.high, limit)
    return replace(noise, rate=rate, low=noise.low if noise.low < limit else 0.0, high=high)


def _log_likelihoods(center: FloatArray) -> FloatArray:
    """Log likelihood of one disagreeing, then one agreeing pair a bin: (rates * slopes, 2 * bins)."""
    error = expit(-SLOPES[:, None] * center)  # the direction is wrong
    disagrees = RATES[:, None, None] + (1 - 2 * RATES[:, None, None]) * error
    both = np.concatenate([np.log(disagrees), np.log1p(-disagrees)], axis=-1)
    return both.reshape(len(RATES) * len(SLOPES), -1)


def _counts(bin_B: IntArray, disagrees_B: FloatArray, weight_B: FloatArray) -> FloatArray:
    """Pairs a bin whose label disagrees, then agrees, with the direction."""
    against = np.bincount(bin_B, weight_B * disagrees_B, BINS)
    return np.concatenate([against, np.bincount(bin_B, weight_B * (1 - disagrees_B), BINS)])


def _resampled_counts(
    bin_B: IntArray, disagrees_B: FloatArray, group_B: IntArray, rng: np.random.Generator
) -> FloatArray:
    """Counts of resampled groups, (resamples, 2 * bins)."""
    _, place_B = np.unique(group_B, return_inverse=True)
    groups = int(place_B.max()) + 1
    draws = (np.bincount(rng.integers(0, groups, groups), minlength=groups) for _ in range(RESAMPLES))
    return np.stack([_counts(bin_B, disagrees_B, times[place_B].astype(np.float64)) for times in draws])
