"""The named results of an evaluation, as frozen data that goes into results.json as it is.

What has no value is None, so null in JSON, never NaN. Gaps and rewards are in nats of log-odds, lengths in
characters.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from outweigh.metrics.calibration import ReliabilityBin
from outweigh.metrics.intervals import Estimate
from outweigh.metrics.paired import McNemar


@dataclass(frozen=True, slots=True)
class CalibrationScores:
    """How well sigma(gap) holds as a probability."""

    log_loss: float
    brier: float
    ece: float
    table: tuple[ReliabilityBin, ...]


@dataclass(frozen=True, slots=True)
class Calibration:
    """Calibration before and after temperature fitting.

    `temperature` is fitted on all pairs: divide gaps by it. `after` is judged with temperatures that the
    pair had no part in. Both are None where there is no finite one: the model is right on every pair of a
    part, or no better than a coin there.
    """

    temperature: float | None
    before: CalibrationScores
    after: CalibrationScores | None


@dataclass(frozen=True, slots=True)
class Correlations:
    """Three coefficients of the same two columns."""

    spearman: Estimate
    kendall: Estimate
    pearson: Estimate


@dataclass(frozen=True, slots=True)
class Distribution:
    """Shape of a column: the histogram has one more edge than counts."""

    mean: float
    std: float  # population
    quantiles: Mapping[str, float]
    counts: tuple[int, ...]
    edges: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class SourceRow:
    """The pairs of one source."""

    source: str
    pairs: int
    accuracy: Estimate
    longer_wins: float


@dataclass(frozen=True, slots=True)
class LengthRow:
    """A quarter of the pairs, by length of chosen - rejected, which lies in [low, high] characters."""

    low: float
    high: float
    pairs: int
    accuracy: Estimate


@dataclass(frozen=True, slots=True)
class Disagreement:
    """How far the models of an ensemble are apart on pairs, and whether that tells where they are wrong.

    A pair is disputed where not all of them put the same response first.
    """

    models: int
    spread: Mapping[str, float]  # quantiles over the pairs of the population std of the models' gaps
    disputed: Estimate  # share of the pairs
    accuracy_agreed: Estimate | None  # the ensemble's; None where there is no such pair
    accuracy_disputed: Estimate | None
    auroc: Estimate  # chance that the spread of a pair put the wrong way is above that of one put right


@dataclass(frozen=True, slots=True)
class Evaluation:
    """One model on one set of pairs."""

    pairs: int
    prompts: int
    ties: int  # gaps of exactly 0
    accuracy: Estimate
    longer_wins: Estimate
    random: float
    gain_over_length: Estimate  # accuracy - longer_wins, on the same resamples
    calibration: Calibration
    graded: Mapping[str, Correlations]  # gap with each kind of graded preference
    length: Correlations  # gap with length of chosen - rejected
    gap: Distribution
    reward: Distribution | None  # chosen and rejected together
    by_source: tuple[SourceRow, ...]
    by_length: tuple[LengthRow, ...]
    ensemble: Disagreement | None = None  # None of a single model

    def to_dict(self) -> dict[str, Any]:
        """The same, as plain dicts, lists and numbers."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Comparison:
    """Model a against model b on the same pairs."""

    accuracy_a: Estimate
    accuracy_b: Estimate
    difference: Estimate  # a - b
    mcnemar: McNemar

    def to_dict(self) -> dict[str, Any]:
        """The same, as plain dicts, lists and numbers."""
        return asdict(self)
