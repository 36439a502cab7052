"""Verdicts -> a win rate with its interval, and how far a judge agrees with people."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from outweigh.errors import DataError
from outweigh.metrics.agreement import cohen_kappa
from outweigh.metrics.arrays import FloatArray
from outweigh.metrics.intervals import Estimate, bootstrap, bootstrap_mean, choose_unit
from outweigh.selection.judges import TIE


@dataclass(frozen=True, slots=True)
class WinRate:
    """How often the first of two responses is better; intervals by prompt."""

    rate: Estimate
    """Share of wins, ties a half."""
    win: float
    tie: float
    lose: float
    without_verdict: int
    """Matches left out of all this, as the judge gave none."""

    def to_dict(self) -> dict[str, Any]:
        """For results.json."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Agreement:
    """A judge beside people, on the pairs that both have a verdict on."""

    accuracy: Estimate
    """Share of pairs on which the judge sides with the preferred response, its ties a half; people's are
    left out."""
    kappa: Estimate
    """Cohen's, of first, tie and second, the sides shuffled: 0 is chance, 1 full agreement."""
    pairs: int

    def to_dict(self) -> dict[str, Any]:
        """For results.json."""
        return asdict(self)


def win_rate(verdicts: Sequence[float | None], prompts: Sequence[str], *, seed: int = 0) -> WinRate:
    """The win rate of the first responses; a prompt a match.

    Raises:
        DataError: there is no verdict at all.
    """
    kept = [place for place, verdict in enumerate(verdicts) if verdict is not None]
    if not kept:
        raise DataError(f"judge: no verdict on any of {len(verdicts)} pairs. Look at what the judge answers.")
    value = np.array([verdicts[place] for place in kept], dtype=np.float64)
    unit = choose_unit(np.array([prompts[place] for place in kept]))
    return WinRate(
        rate=bootstrap_mean(value, unit, seed=seed),
        win=float((value > TIE).mean()),
        tie=float((value == TIE).mean()),
        lose=float((value < TIE).mean()),
        without_verdict=len(verdicts) - len(kept),
    )


def agreement(judge: FloatArray, people: FloatArray, prompts: Sequence[str], *, seed: int = 0) -> Agreement:
    """How far the judge's verdicts (B,) agree with people's (B,), both 1, a half or 0.

    Raises:
        DataError: people prefer neither response on every pair.
    """
    sided = people != TIE
    if not sided.any():
        raise DataError("judge: people prefer neither response on any pair: nothing to agree with.")
    names = np.array(prompts)
    right = np.where(people[sided] == 1.0, judge[sided], 1.0 - judge[sided])
    return Agreement(
        accuracy=bootstrap_mean(right, choose_unit(names[sided]), seed=seed),
        kappa=bootstrap(lambda at: cohen_kappa(judge[at], people[at]), choose_unit(names), seed=seed),
        pairs=len(judge),
    )
