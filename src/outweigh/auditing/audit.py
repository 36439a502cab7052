"""The audit of a file's labels, put together from votes; it never sees a model."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from outweigh.auditing.metrics import NOISE_METRICS
from outweigh.auditing.noise import MIN_PAIRS, NoiseEstimate, estimate_noise, limited_noise
from outweigh.auditing.strength import preference_strength
from outweigh.auditing.trust import Trial, Trust, estimate_trust
from outweigh.auditing.wrong import wrong_probability
from outweigh.metrics.arrays import FloatArray, IntArray
from outweigh.voting.votes import Votes, held_out_strength


@dataclass(frozen=True, slots=True, eq=False)
class Audit:
    """What the voters say of B pairs: a value each, and what holds for the whole file."""

    strength: FloatArray  # (B,), nats
    spread: FloatArray  # (B,), nats
    wrong_probability: FloatArray  # (B,), in [0, 1]
    metrics: dict[str, FloatArray]  # each (B,), higher is more doubtful
    noise: NoiseEstimate
    noise_by_source: dict[str, NoiseEstimate | None]  # None: too few pairs
    trust: Trust | None  # None: no trial; voters that came trained have none
    voters: int
    held_out: bool  # False: all voters had seen all labels, so the noise is underestimated

    def columns(self, row_B: IntArray, action_B: NDArray[np.str_]) -> dict[str, NDArray[Any]]:
        """The columns of strength.parquet, the noise metrics last."""
        return {
            "row": row_B,
            "strength": self.strength,
            "spread": self.spread,
            "wrong_probability": self.wrong_probability,
            "action": action_B,
            **self.metrics,
        }


def audit(
    votes: Votes,
    *,
    group_B: IntArray,
    source_B: NDArray[Any] | None = None,
    trial: Trial | None = None,
    rule_agreement: float | None = None,
    seed: int = 0,
) -> Audit:
    """The audit of B pairs from the votes on them.

    `group_B` are the units that intervals resample (prompts). In `trial`, votes on labels of which some were
    swapped, these are looked for; without it nothing is said on trust.
    `rule_agreement` is the share of labels that a rule on length sides with.

    Raises:
        DataError: fewer than 100 pairs.
    """
    strength = preference_strength(votes.gap_MB)
    held_out = held_out_strength(votes)
    noise = estimate_noise(held_out, group_B, seed=seed)
    trust = None
    if trial is not None:
        trust = estimate_trust(
            trial,
            noise=noise,
            agreement=float(np.where(held_out == 0, 0.5, held_out > 0).mean()),
            rule_agreement=rule_agreement,
        )
        noise = trust.noise
    return Audit(
        strength=strength.mean,
        spread=strength.spread,
        wrong_probability=wrong_probability(votes, noise),
        metrics={name: metric(votes) for name, metric in NOISE_METRICS.items()},
        noise=noise,
        noise_by_source=_by_source(held_out, group_B, source_B, trial, seed),
        trust=trust,
        voters=len(votes.gap_MB),
        held_out=votes.witness_B is not None or bool(votes.unseen_MB.any()),
    )


def _by_source(
    held_out_B: FloatArray,
    group_B: IntArray,
    source_B: NDArray[Any] | None,
    trial: Trial | None,
    seed: int,
) -> dict[str, NoiseEstimate | None]:
    """Each source's noise, limited as that of the whole is: by the flips that were planted in it."""
    if source_B is None:
        return {}
    found_B = None if trial is None else preference_strength(trial.votes.gap_MB).mean
    names, place_B = np.unique(source_B.astype(str), return_inverse=True)
    result: dict[str, NoiseEstimate | None] = {}
    for number, name in enumerate(names):
        inside = place_B == number
        noise = None
        if inside.sum() >= MIN_PAIRS:
            noise = estimate_noise(held_out_B[inside], group_B[inside], seed=seed)
            if trial is not None and found_B is not None and trial.flipped_B[inside].any():
                noise = limited_noise(noise, found_B[inside], trial.flipped_B[inside])
        result[str(name)] = noise
    return result
