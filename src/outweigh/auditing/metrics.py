"""Noise metrics: how doubtful each label is, (B,), higher is more doubtful."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy.special import entr, expit

from outweigh.auditing.strength import preference_strength
from outweigh.voting.votes import Votes, held_out_strength

Metric = Callable[[Votes], NDArray[np.float64]]


def weakness(votes: Votes) -> NDArray[np.float64]:
    """The strength, negated. Source: Wang et al. 2024, arXiv:2401.06080, section 2.2."""
    return -preference_strength(votes.gap_MB).mean


def weakness_per_spread(votes: Votes) -> NDArray[np.float64]:
    """The strength in units of its spread, negated; the spread is at least 1e-6 nats."""
    strength = preference_strength(votes.gap_MB)
    return -strength.mean / np.maximum(strength.spread, 1e-6)


def entropy(votes: Votes) -> NDArray[np.float64]:
    """Entropy of the voters' mean probability, in nats; the ambiguous, whichever side is right."""
    probability = expit(votes.gap_MB.astype(np.float64)).mean(axis=0)
    return np.asarray(entr(probability) + entr(1 - probability))


def lack_of_self_confidence(votes: Votes) -> NDArray[np.float64]:
    """One minus the mean probability of the label. Source: Northcutt et al. 2021, arXiv:1911.00068."""
    return np.asarray(1 - expit(votes.gap_MB.astype(np.float64)).mean(axis=0))


def area_under_margin(votes: Votes) -> NDArray[np.float64]:
    """The mean gap over all epochs and voters, negated; of voters that came trained, the weakness.

    Source: Pleiss et al. 2020, arXiv:2001.10528, on a gap in place of a logit margin.
    """
    if votes.epoch_gap_EB is None:
        return weakness(votes)
    return np.asarray(-votes.epoch_gap_EB.mean(axis=0, dtype=np.float64))


def loss(votes: Votes) -> NDArray[np.float64]:
    """The voters' mean Bradley-Terry loss, softplus(-gap), in nats."""
    return np.asarray(np.logaddexp(0, -votes.gap_MB.astype(np.float64)).mean(axis=0))


def held_out_weakness(votes: Votes) -> NDArray[np.float64]:
    """The strength among voters that had not seen the pair, negated; where all had, the weakness."""
    return -held_out_strength(votes)


NOISE_METRICS: dict[str, Metric] = {
    "weakness": weakness,
    "weakness_per_spread": weakness_per_spread,
    "entropy": entropy,
    "lack_of_self_confidence": lack_of_self_confidence,
    "area_under_margin": area_under_margin,
    "loss": loss,
    "held_out_weakness": held_out_weakness,
}
