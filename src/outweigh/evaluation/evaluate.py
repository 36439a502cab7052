"""One model on one set of pairs."""

from collections.abc import Callable

import numpy as np

from outweigh.evaluation.facts import PairFacts
from outweigh.evaluation.results import (
    Calibration,
    CalibrationScores,
    Correlations,
    Disagreement,
    Distribution,
    Evaluation,
    LengthRow,
    SourceRow,
)
from outweigh.metrics.accuracy import correct, longer_wins
from outweigh.metrics.arrays import BoolArray, FloatArray, IntArray, check_pairs
from outweigh.metrics.calibration import (
    brier,
    cross_fitted,
    equal_mass,
    expected_calibration_error,
    fit_temperature,
    log_loss,
    reliability,
)
from outweigh.metrics.correlation import kendall, pearson, spearman
from outweigh.metrics.detection import auroc
from outweigh.metrics.intervals import RESAMPLES, Estimate, bootstrap, bootstrap_mean

# Each resample of a rank correlation sorts its pairs anew, which would be most of an evaluation's time.
RANK_RESAMPLES = (100, 500)  # at least, at most; between them, as many as sort RANKED_PAIRS in all
RANKED_PAIRS = 2_000_000
QUANTILES = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)
HISTOGRAM_BINS = 40
LENGTH_BANDS = 4


def evaluate_gaps(
    gap: FloatArray,
    facts: PairFacts,
    *,
    reward_chosen: FloatArray | None = None,
    reward_rejected: FloatArray | None = None,
    gap_MB: FloatArray | None = None,
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> Evaluation:
    """Everything that a model's gaps (B,) say about it, beside what the rule "the longer one wins" says.

    Intervals are by prompt where there are 30 or more prompts, else by pair; each names its unit. Without
    the rewards themselves only their distribution is left out. `gap_MB` are the gaps of the M models that the
    one is made of, where it is made of several.

    Raises:
        ShapeError: gaps, rewards and facts are not one value a pair.
        DataError: a gap or a reward is NaN or infinite.
    """
    check_pairs(gap=gap, prompt_ids=facts.prompt_ids)
    gap = gap.astype(np.float64)  # float32 sums of a million pairs would lose the last digits
    unit, right, longer = facts.unit(), correct(gap), correct(facts.longer_by)

    def mean(values: FloatArray) -> Estimate:
        return bootstrap_mean(values, unit, resamples=resamples, seed=seed)

    return Evaluation(
        pairs=len(gap),
        prompts=len(np.unique(facts.prompt_ids)),
        ties=int((gap == 0).sum()),
        accuracy=mean(right),
        longer_wins=mean(longer),
        random=0.5,
        gain_over_length=mean(right - longer),
        calibration=_calibration(gap, unit.ids, seed=seed),
        graded={
            name: _correlations(gap, grade, facts, resamples=resamples, seed=seed)
            for name, grade in facts.grades.items()
            if not np.isnan(grade).all()
        },
        length=_correlations(gap, facts.longer_by, facts, resamples=resamples, seed=seed),
        gap=_distribution(gap),
        reward=_rewards(gap, reward_chosen, reward_rejected),
        by_source=_by_source(gap, facts, resamples=resamples, seed=seed),
        by_length=_by_length(gap, facts, resamples=resamples, seed=seed),
        ensemble=None
        if gap_MB is None or len(gap_MB) < 2
        else _disagreement(gap, gap_MB, facts, resamples=resamples, seed=seed),
    )


def _calibration(gap: FloatArray, groups: IntArray, *, seed: int) -> Calibration:
    scaled = cross_fitted(gap, groups, seed=seed)
    return Calibration(
        temperature=None if scaled is None else fit_temperature(gap),
        before=_calibration_scores(gap),
        after=None if scaled is None else _calibration_scores(scaled),
    )


def _calibration_scores(gap: FloatArray) -> CalibrationScores:
    table = reliability(gap)
    return CalibrationScores(log_loss(gap), brier(gap), expected_calibration_error(table), table)


def _correlations(
    gap: FloatArray, other: FloatArray, facts: PairFacts, *, resamples: int, seed: int
) -> Correlations:
    known = ~np.isnan(other)
    gap, other, unit = gap[known], other[known], facts.unit(known)
    resamples = _rank_resamples(len(gap), resamples)

    def estimate(measure: Callable[[FloatArray, FloatArray], float | None]) -> Estimate:
        return bootstrap(
            lambda drawn: measure(gap[drawn], other[drawn]), unit, resamples=resamples, seed=seed
        )

    return Correlations(spearman=estimate(spearman), kendall=estimate(kendall), pearson=estimate(pearson))


def _rank_resamples(pairs: int, resamples: int) -> int:
    """How many resamples a statistic that sorts the pairs is worth."""
    fewest, most = RANK_RESAMPLES
    return min(resamples, max(fewest, min(most, RANKED_PAIRS // pairs)))


def _disagreement(
    gap: FloatArray, gap_MB: FloatArray, facts: PairFacts, *, resamples: int, seed: int
) -> Disagreement:
    check_pairs(gap=gap, **{f"gap of model {number}": each for number, each in enumerate(gap_MB, 1)})
    spread = gap_MB.std(axis=0)
    disputed = np.ptp(np.sign(gap_MB), axis=0) > 0
    unit, wrong = facts.unit(), gap < 0

    def accuracy(here: BoolArray) -> Estimate | None:
        if not here.any():
            return None
        return bootstrap_mean(correct(gap[here]), facts.unit(here), resamples=resamples, seed=seed)

    return Disagreement(
        models=len(gap_MB),
        spread=_quantiles(spread),
        disputed=bootstrap_mean(disputed.astype(np.float64), unit, resamples=resamples, seed=seed),
        accuracy_agreed=accuracy(~disputed),
        accuracy_disputed=accuracy(disputed),
        auroc=bootstrap(
            lambda drawn: auroc(spread[drawn], wrong[drawn]),
            unit,
            resamples=_rank_resamples(len(gap), resamples),
            seed=seed,
        ),
    )


def _quantiles(values: FloatArray) -> dict[str, float]:
    found = np.quantile(values, QUANTILES)
    return {f"{q:g}": float(value) for q, value in zip(QUANTILES, found, strict=True)}


def _distribution(values: FloatArray) -> Distribution:
    low, high = float(values.min()), float(values.max())
    if high - low < 1e-9 * max(1.0, abs(low), abs(high)):  # too little for as many bins
        low, high = low - 0.5, high + 0.5
    counts, edges = np.histogram(values, bins=HISTOGRAM_BINS, range=(low, high))
    return Distribution(
        mean=float(values.mean()),
        std=float(values.std()),
        quantiles=_quantiles(values),
        counts=tuple(int(count) for count in counts),
        edges=tuple(float(edge) for edge in edges),
    )


def _rewards(gap: FloatArray, chosen: FloatArray | None, rejected: FloatArray | None) -> Distribution | None:
    if chosen is None or rejected is None:
        return None
    check_pairs(gap=gap, reward_chosen=chosen, reward_rejected=rejected)
    return _distribution(np.concatenate([chosen, rejected]).astype(np.float64))


def _by_source(gap: FloatArray, facts: PairFacts, *, resamples: int, seed: int) -> tuple[SourceRow, ...]:
    if facts.source is None:
        return ()
    source = facts.source.astype(str)
    rows = []
    for name in np.unique(source):
        here = source == name
        unit = facts.unit(here)
        rows.append(
            SourceRow(
                source=str(name),
                pairs=int(here.sum()),
                accuracy=bootstrap_mean(correct(gap[here]), unit, resamples=resamples, seed=seed),
                longer_wins=longer_wins(facts.chosen_characters[here], facts.rejected_characters[here]),
            )
        )
    return tuple(rows)


def _by_length(gap: FloatArray, facts: PairFacts, *, resamples: int, seed: int) -> tuple[LengthRow, ...]:
    longer_by = facts.longer_by
    band_of = equal_mass(longer_by, LENGTH_BANDS)
    rows = []
    for band in np.unique(band_of):
        here = band_of == band
        unit = facts.unit(here)
        rows.append(
            LengthRow(
                low=float(longer_by[here].min()),
                high=float(longer_by[here].max()),
                pairs=int(here.sum()),
                accuracy=bootstrap_mean(correct(gap[here]), unit, resamples=resamples, seed=seed),
            )
        )
    return tuple(rows)
