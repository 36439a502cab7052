"""The probability that each label is wrong."""

import numpy as np
from scipy.optimize import minimize
from scipy.special import expit, logit

from outweigh.auditing.noise import NoiseEstimate
from outweigh.metrics.arrays import FloatArray, check_pairs

LEAST_RATE = 0.001  # an estimate of 0 means "none seen"; it must not make every probability exactly 0


def wrong_probability(strength_B: FloatArray, held_out_B: FloatArray, noise: NoiseEstimate) -> FloatArray:
    """The probability (B,), in [0, 1], that each label is wrong, falling with its strength.

    By the model of the noise estimate a pair of held-out strength s is wrong with probability

        q(s) = sigma( logit(rate) - slope * s / scale ),

    Bayes' rule with `rate` before, and the voters' direction as evidence. The held-out strength has few
    voters; that of all voters finds wrong labels better, but they have seen them. So the result is the
    logistic curve of the strength that fits q best (by cross-entropy), and never rises with strength.

    Source: ours; its reliability on planted flips is in docs/measurements.md.
    """
    check_pairs(strength=strength_B, held_out=held_out_B)
    rate = max(noise.rate, LEAST_RATE)
    target_B = expit(logit(rate) - noise.slope * held_out_B / noise.scale)
    scale = max(float(np.sqrt(np.mean(strength_B**2))), 1e-12)
    size_B = strength_B / scale

    def loss_and_gradient(parameters: FloatArray) -> tuple[float, FloatArray]:
        offset, slope = parameters
        logit_B = offset - slope * size_B
        error_B = expit(logit_B) - target_B
        value = np.mean(np.logaddexp(0, logit_B) - target_B * logit_B)
        return float(value), np.array([error_B.mean(), -(error_B * size_B).mean()])

    start = np.array([logit(rate), noise.slope])
    found = minimize(loss_and_gradient, start, jac=True, bounds=[(-20, 20), (0, 50)])
    return np.asarray(expit(found.x[0] - found.x[1] * size_B))
