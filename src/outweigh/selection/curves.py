"""Best-of-n over many prompts: for every n what is kept, what it beats, and where more is worse."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import numpy as np

from outweigh.errors import DataError
from outweigh.metrics.arrays import FloatArray
from outweigh.metrics.best_of_n import chance_against_random, divergence_bound, duel_chances, expected_best
from outweigh.metrics.intervals import (
    Band,
    Estimate,
    Unit,
    bootstrap_mean,
    bootstrap_means,
    choose_unit,
    fallen,
)

ORACLE = "oracle"
"""The gold itself as a judge: nothing beats it, so nothing is set against it."""


class Candidate(NamedTuple):
    """One prompt's K responses: the rewards (K,) of each judge of them by its name, and their gold (K,)."""

    prompt: str  # rows of one prompt are resampled together
    rewards: Mapping[str, FloatArray]
    gold: FloatArray


@dataclass(frozen=True, slots=True)
class Curve:
    """Best-of-n by one judge, for n = 1 ... N."""

    gold: Band
    """Mean gold of what is kept."""
    wins: Band
    """Chance that it has more gold than one of the K drawn at random, ties a half."""
    best_n: int
    """The n of most gold. It is chosen on these prompts, so its gold is flattered."""
    over_optimised_from: int | None
    """The first n whose gold is below that of a smaller n by more than chance, all n tried at once; None
    where there is none."""


@dataclass(frozen=True, slots=True)
class BestOfN:
    """What each judge's best of n is worth. `divergence` is the bound on nats from the sampled policy."""

    candidates: int
    """N, the largest n."""
    prompts: int
    left_out: int
    """Rows with fewer than N responses."""
    longer: int
    """Rows with more."""
    divergence: list[float]
    random: Estimate
    """Mean gold of one drawn at random."""
    curves: Mapping[str, Curve]
    gains: Mapping[str, Estimate]
    """Gold at N of the first judge less that of another, by prompt."""
    duels: Mapping[str, Band]
    """Chance that the first judge's best of n has more gold than another's best of the same n."""

    def to_dict(self) -> dict[str, Any]:
        """For results.json."""
        return asdict(self)


def best_of_n(given: Sequence[Candidate], *, candidates: int | None = None, seed: int = 0) -> BestOfN:
    """The curves of every judge, the first of which is compared with all others.

    N is `candidates`, or else the fewest responses that a prompt with a choice has; prompts with fewer are
    left out, of those with more every choice of n counts.

    Raises:
        DataError: no prompt has so many.
    """
    counts = [len(each.gold) for each in given]
    most = candidates or min((count for count in counts if count > 1), default=2)
    used = [each for each, count in zip(given, counts, strict=True) if count >= most]
    if not used:
        raise DataError(
            f"best-of-n: no prompt has {most} responses with gold, the most is {max(counts, default=0)}. "
            "Give prompts with two or more, or a smaller number of candidates."
        )
    unit = choose_unit(np.array([each.prompt for each in used]))
    first, *others = used[0].rewards
    gold_BN = {
        name: np.stack([expected_best(each.rewards[name], each.gold)[:most] for each in used])
        for name in (first, *others)
    }
    random = np.array([each.gold.mean() for each in used])
    last = {"random": random} | {name: gold_BN[name][:, -1] for name in others}
    return BestOfN(
        candidates=most,
        prompts=len(used),
        left_out=len(given) - len(used),
        longer=sum(count > most for count in counts),
        divergence=divergence_bound(np.arange(1, most + 1)).tolist(),
        random=bootstrap_mean(random, unit, seed=seed),
        curves={name: _curve(used, name, each, unit, seed) for name, each in gold_BN.items()},
        gains={
            name: bootstrap_mean(gold_BN[first][:, -1] - each, unit, seed=seed) for name, each in last.items()
        },
        duels={name: _duel(used, first, name, most, unit, seed) for name in others if name != ORACLE},
    )


def _curve(used: Sequence[Candidate], name: str, gold_BN: FloatArray, unit: Unit, seed: int) -> Curve:
    most = gold_BN.shape[1]
    wins_BN = np.stack(
        [expected_best(each.rewards[name], chance_against_random(each.gold))[:most] for each in used]
    )
    fallen_at = np.flatnonzero(fallen(gold_BN, unit, seed=seed))
    return Curve(
        gold=bootstrap_means(gold_BN, unit, seed=seed),
        wins=bootstrap_means(wins_BN, unit, seed=seed),
        best_n=int(gold_BN.mean(axis=0).argmax()) + 1,
        over_optimised_from=int(fallen_at[0]) + 1 if len(fallen_at) else None,
    )


def _duel(used: Sequence[Candidate], first: str, other: str, most: int, unit: Unit, seed: int) -> Band:
    won_BN = [
        duel_chances(each.rewards[first], each.rewards[other], each.gold, seed=seed + place)[:most]
        for place, each in enumerate(used)
    ]
    return bootstrap_means(np.stack(won_BN), unit, seed=seed)
