"""The probability that each label is wrong."""

import numpy as np
from scipy.optimize import brentq, minimize
from scipy.special import expit, logit

from outweigh.auditing.noise import NoiseEstimate
from outweigh.auditing.strength import preference_strength
from outweigh.metrics.arrays import FloatArray, check_pairs
from outweigh.voting.votes import Votes, held_out_strength

LEAST_RATE = 0.001  # an estimate of 0 means "none seen"; it must not make every probability exactly 0
SLOPES = np.geomspace(0.2, 20.0, 60)  # per root mean square of strength
# Log-normal: median, and std of the logarithm. Full voters on the demo had 5 to 9. It decides alone where the
# witness says nothing.
SLOPE_PRIOR, SLOPE_PRIOR_STD = 4.0, 1.0


def wrong_probability(votes: Votes, noise: NoiseEstimate) -> FloatArray:
    """The probability (B,), in [0, 1], that each label is wrong: a logistic curve that falls with strength.

    The strength of all voters finds wrong labels best, but they have seen them, and its scale says nothing of
    how sure to be. That comes from held-out strengths, in one of two ways: where the voters that had not seen
    a label are among those that vote, the curve fits their posterior; where a witness is apart from them, its
    disagreements are evidence that the curve must explain.
    """
    strength_B, held_out_B = preference_strength(votes.gap_MB).mean, held_out_strength(votes)
    check_pairs(strength=strength_B, held_out=held_out_B)
    size_B = strength_B / max(float(np.sqrt(np.mean(strength_B**2))), 1e-12)
    curve = _fits_posterior if votes.witness_B is None else _explains_witness
    return curve(size_B, held_out_B, noise)


def _fits_posterior(size_B: FloatArray, held_out_B: FloatArray, noise: NoiseEstimate) -> FloatArray:
    """The curve nearest, in cross-entropy, to what held-out strengths s say by the noise estimate's model,

        q(s) = sigma( logit(rate) - slope * s / scale ),

    Bayes' rule with `rate` before, and the voters' direction as evidence.

    Source: ours; its reliability on planted flips is in docs/measurements.md.
    """
    rate = max(noise.rate, LEAST_RATE)
    target_B = expit(logit(rate) - noise.slope * held_out_B / noise.scale)

    def loss_and_gradient(parameters: FloatArray) -> tuple[float, FloatArray]:
        offset, slope = parameters
        logit_B = offset - slope * size_B
        error_B = expit(logit_B) - target_B
        value = np.mean(np.logaddexp(0, logit_B) - target_B * logit_B)
        return float(value), np.array([error_B.mean(), -(error_B * size_B).mean()])

    start = np.array([logit(rate), noise.slope])
    found = minimize(loss_and_gradient, start, jac=True, bounds=[(-20, 20), (0, 50)])
    return np.asarray(expit(found.x[0] - found.x[1] * size_B))


def _explains_witness(size_B: FloatArray, held_out_B: FloatArray, noise: NoiseEstimate) -> FloatArray:
    """The curve p of mean `rate` under which the witness's disagreements with the labels are likeliest.

    By the noise estimate's model the witness's direction is right with probability r = sigma(slope |s| /
    scale), so it disagrees with a label with probability p r + (1 - p)(1 - r), were it and the voters
    independent given the truth. They are not quite: both find the same pairs hard. Fitting the level too
    then claims far too many wrong labels, which is why the estimated rate fixes it. The slope has a prior.

    Source: ours; its reliability on planted flips is in docs/measurements.md.
    """
    rate = max(noise.rate, LEAST_RATE)
    right_B = expit(noise.slope * np.abs(held_out_B) / noise.scale)
    disagrees_B = np.where(held_out_B == 0, 0.5, held_out_B < 0)

    def curve(slope: float) -> FloatArray:
        far = 50 + slope * np.abs(size_B).max()
        offset = brentq(lambda level: expit(level - slope * size_B).mean() - rate, -far, far)
        return np.asarray(expit(offset - slope * size_B))

    def log_posterior(slope: float) -> float:
        wrong_B = curve(slope)
        against = wrong_B * right_B + (1 - wrong_B) * (1 - right_B)
        against = np.clip(against, 1e-9, 1 - 1e-9)
        each_B = disagrees_B * np.log(against) + (1 - disagrees_B) * np.log1p(-against)
        return float(each_B.sum() - 0.5 * (np.log(slope / SLOPE_PRIOR) / SLOPE_PRIOR_STD) ** 2)

    return curve(max(SLOPES, key=log_posterior))
