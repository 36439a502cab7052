"""Whether the audit may be trusted on this data: it must find flips that it planted itself."""

from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from outweigh.auditing.noise import NoiseEstimate, estimate_noise, limited_noise
from outweigh.auditing.strength import preference_strength
from outweigh.auditing.wrong import wrong_probability
from outweigh.errors import DataError
from outweigh.metrics.arrays import FloatArray
from outweigh.voting.votes import Votes, held_out_strength

PLANTED_SHARE = 0.1  # each planted flip also misleads the voters
THRESHOLD = 0.8  # measured: docs/measurements.md, trust gate
LEAST_LIMIT = 0.65  # of its interval, for few planted flips or an unknown rate: they reach 0.8 by chance
MIN_PLANTED = 10
TENTHS = 10
HIGHEST_CORRECTED_RATE = 0.4  # beyond it the correction multiplies the sampling error by more than five


class Trial(NamedTuple):
    """Labels that were swapped at random, (B,), and the votes (M, B) of voters that learnt them so."""

    flipped_B: NDArray[np.bool_]
    votes: Votes


@dataclass(frozen=True, slots=True)
class ReliabilityRow:
    """Pairs of like wrong probability: its mean, and the share of them that is wrong."""

    predicted: float
    observed: float
    pairs: int


@dataclass(frozen=True, slots=True)
class Trust:
    """What the audit finds of the flips that it planted, and what follows."""

    auroc: float  # corrected for the wrong labels that the data has by itself
    low: float
    high: float  # 95 % interval of auroc
    observed: float  # before the correction
    planted: int
    agreement: float | None  # share of labels that held-out voters side with
    rule_agreement: float | None  # the same of a rule of thumb, such as "the longer one wins"
    repair: bool
    reason: str
    reliability: tuple[ReliabilityRow, ...]
    noise: NoiseEstimate  # as given, and no more than the planted flips allow


def planted_flips(pairs: int, seed: int, share: float = PLANTED_SHARE) -> NDArray[np.bool_]:
    """Marks (B,) a random share of the pairs."""
    marks = np.zeros(pairs, dtype=bool)
    marks[np.random.default_rng(seed).permutation(pairs)[: round(share * pairs)]] = True
    return marks


def estimate_trust(
    trial: Trial,
    *,
    noise: NoiseEstimate,
    agreement: float | None = None,
    rule_agreement: float | None = None,
) -> Trust:
    """How well voters of the same kind find labels that were swapped at random, and whether to repair.

    Of the planted flips a share, the noise rate, was wrong before, and is right now; as much of the others is
    wrong. Both shrink what is seen to AUROC' - 1/2 = (1 - 2 rate) (AUROC - 1/2), which is undone with the
    estimated rate, brought under what the planted flips allow; its limits go into those of the AUROC, beside
    the sampling error. The voters learn from noisier labels than in the real vote, and may be fewer, so they
    are somewhat better than this says. It holds for wrong labels spread evenly, as planted ones are.

    Raises:
        DataError: fewer than 100 pairs, too few to plant flips in.
    """
    flipped, votes = trial
    if flipped.sum() < MIN_PLANTED:
        raise DataError(
            f"trust: got {len(flipped)} pairs, want at least {round(MIN_PLANTED / PLANTED_SHARE)} "
            "to plant flips in. Give more pairs."
        )
    strength = preference_strength(votes.gap_MB).mean
    noise = limited_noise(noise, strength, flipped)
    observed, error = auroc_with_error(-strength, flipped)
    value = _undone(observed, noise.rate)
    low = min(_undone(observed - 1.96 * error, rate) for rate in (noise.low, noise.high))
    high = max(_undone(observed + 1.96 * error, rate) for rate in (noise.low, noise.high))
    repair, reason = _verdict(value, low, agreement, rule_agreement)
    return Trust(
        auroc=value,
        low=low,
        high=high,
        observed=observed,
        planted=int(flipped.sum()),
        agreement=agreement,
        rule_agreement=rule_agreement,
        repair=repair,
        reason=reason,
        reliability=reliability(votes, flipped, noise.rate),
        noise=noise,
    )


def _undone(observed: float, rate: float) -> float:
    """The AUROC were all labels right but the planted ones."""
    return float(np.clip(0.5 + (observed - 0.5) / (1 - 2 * min(rate, HIGHEST_CORRECTED_RATE)), 0, 1))


def reliability(votes: Votes, flipped_B: NDArray[np.bool_], rate: float) -> tuple[ReliabilityRow, ...]:
    """Claimed and seen shares of wrong labels in tenths by wrong probability, after flips were planted.

    What is seen is the share s of planted flips in a tenth. Planted flips are a share a of the wrong labels
    and a share b of the right ones, both known from the rate before: (s - b) / (a - b) of the tenth is wrong.
    """
    held_out_B = held_out_strength(votes)
    noise = estimate_noise(held_out_B, np.arange(len(held_out_B)))
    most = rate * (1 - flipped_B.mean()) + (1 - rate) * flipped_B.mean()
    noise = replace(noise, rate=min(noise.rate, float(most)))
    claimed_B = wrong_probability(votes, noise)
    share, rate = float(flipped_B.mean()), min(rate, HIGHEST_CORRECTED_RATE)
    among_wrong = share * (1 - rate) / (share * (1 - rate) + (1 - share) * rate)
    among_right = share * rate / (share * rate + (1 - share) * (1 - rate))
    rows = []
    for tenth in np.array_split(np.argsort(claimed_B, kind="stable"), TENTHS):
        seen = (float(flipped_B[tenth].mean()) - among_right) / (among_wrong - among_right)
        rows.append(ReliabilityRow(float(claimed_B[tenth].mean()), float(np.clip(seen, 0, 1)), len(tenth)))
    return tuple(rows)


def _verdict(
    auroc: float, low: float, agreement: float | None, rule_agreement: float | None
) -> tuple[bool, str]:
    found = f"of flips planted in this data the voters find AUROC {auroc:.2f} (at least {low:.2f})"
    if auroc < THRESHOLD or low < LEAST_LIMIT:
        return False, (
            f"{found}; under {THRESHOLD}, or with a lower limit under {LEAST_LIMIT}, "
            "repair was seen to lose as well as to gain."
        )
    if agreement is not None and rule_agreement is not None and agreement <= rule_agreement:
        return False, (
            f"{found}, but voters that had not seen a label side with {agreement:.3f} of them, "
            f"no more than a rule of thumb on length ({rule_agreement:.3f})."
        )
    return True, f"{found}."


def auroc_with_error(score_B: FloatArray, wrong_B: NDArray[np.bool_]) -> tuple[float, float]:
    """The chance that a wrong label scores higher than a right one (ties half), and its standard error.

    Source: DeLong et al. 1988, Biometrics 44, 837; by ranks.
    """
    wrong, right = score_B[wrong_B], score_B[~wrong_B]
    rank = rankdata(np.concatenate([wrong, right]))
    above = (rank[: len(wrong)] - rankdata(wrong)) / len(right)  # of each wrong one: right ones below it
    below = 1 - (rank[len(wrong) :] - rankdata(right)) / len(wrong)
    variance = above.var(ddof=1) / len(wrong) + below.var(ddof=1) / len(right)
    return float(above.mean()), float(np.sqrt(variance))
