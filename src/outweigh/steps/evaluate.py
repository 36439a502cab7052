"""`outweigh evaluate`: what the rewards of one or several models say on pairs."""

import logging
from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from outweigh.data.pairs import Data, OnBadRows, PairSet, read_pairs
from outweigh.errors import ConfigError, DataError, ServerRefusal
from outweigh.evaluation.compare import compare
from outweigh.evaluation.evaluate import evaluate_gaps
from outweigh.evaluation.facts import PairFacts, grade_of
from outweigh.evaluation.results import Comparison, Evaluation
from outweigh.metrics.arrays import FloatArray
from outweigh.models.ensemble import load_scorer
from outweigh.models.reward import Scorer
from outweigh.servers.config import ServerConfig, masked
from outweigh.steps.record import check_apart, described, headed, peak_memory, write_json

logger = logging.getLogger(__name__)

Model = str | Path | Scorer


class Judged(NamedTuple):
    """A model's evaluation, and the gaps (B,) that it stands on."""

    evaluation: Evaluation
    gap: FloatArray


class Rewards(NamedTuple):
    """What a model, or M as one, gives B pairs: NaN to those of which its server refuses a text."""

    chosen: FloatArray  # (B,)
    rejected: FloatArray  # (B,)
    gap_MB: FloatArray
    refused: Mapping[int, ServerRefusal]  # why, by place


def evaluate(
    data: Data | PairSet | Sequence[str | Path],
    *,
    models: Sequence[Model] | Mapping[str, Model],
    out: str | Path | None = None,
    grade: str | None = None,
    on_bad_rows: OnBadRows = "error",
    seed: int = 0,
    server: ServerConfig | None = None,
) -> dict[str, Any]:
    """The results of each model on each set of pairs, and of each two models compared; written to `out`.

    `data` is one set, or a list of files. `grade` names a column of graded preference to correlate the gaps
    with, besides votes and ratings. Served models are asked as `server` says; where bad rows are skipped, a
    pair that one of them refuses is left out for all, and told in `refused`.

    Raises:
        DataError, ConfigError, ModelError: with what to do.
    """
    named = models if isinstance(models, Mapping) else named_models(models)
    sets = _sets(data)
    if out is not None:
        check_apart(Path(out), *sets.values())
    read = read_sets(data, grade, on_bad_rows)
    rewards: dict[str, dict[str, Rewards]] = {name: {} for name in sets}
    for name, model in named.items():  # one model in memory at a time
        loaded = load_scorer(model, server)
        for where, pairs in read.items():
            rewards[where][name] = _rewards(loaded, pairs, skip=on_bad_rows == "skip")
    results = headed("evaluate", seed) | {
        "sets": {
            where: {"data": described(each, read[where])}
            | _compared_on(read[where], rewards[where], grade=grade, seed=seed)
            for where, each in sets.items()
        },
        "peak_memory_bytes": peak_memory(),
    }
    if out is not None:
        write_json(Path(out), results)
    return results


def _compared_on(
    pairs: PairSet, rewards: Mapping[str, Rewards], *, grade: str | None, seed: int
) -> dict[str, Any]:
    """The models' evaluations and comparisons, on the pairs that no model's server refused."""
    why = {place: each.refused[place] for each in rewards.values() for place in each.refused}
    refused = [f"{pairs[place].origin}: {why[place]}" for place in sorted(why)]
    places = np.setdiff1d(np.arange(len(pairs)), sorted(why))
    if not len(places):
        raise DataError(f"evaluate: none of {len(pairs):,} pairs can be scored. The first: {refused[0]}")
    if refused:
        said = "%d of %d pairs were refused and are left out. The first: %s"
        logger.warning(said, len(refused), len(pairs), refused[0])
        pairs = pairs.select(places)
    facts = PairFacts.of(pairs, grade)
    judgements = {
        name: _judged(
            Rewards(each.chosen[places], each.rejected[places], each.gap_MB[:, places], {}), facts, seed=seed
        )
        for name, each in rewards.items()
    }
    return {
        "refused": refused,
        "evaluation": {name: found.evaluation for name, found in judgements.items()},
        "comparisons": compared(judgements, facts, seed=seed),
    }


def judged(model: Scorer, pairs: PairSet, *, seed: int, grade: str | None = None) -> Judged:
    """The model's evaluation on the pairs."""
    return _judged(_rewards(model, pairs), PairFacts.of(pairs, grade), seed=seed)


def _rewards(model: Scorer, pairs: PairSet, *, skip: bool = False) -> Rewards:
    chosen_MB, rejected_MB, refused = model.score_pairs_each(pairs, skip=skip)
    return Rewards(model.combined(chosen_MB), model.combined(rejected_MB), chosen_MB - rejected_MB, refused)


def _judged(rewards: Rewards, facts: PairFacts, *, seed: int) -> Judged:
    gap = rewards.chosen - rewards.rejected
    found = evaluate_gaps(
        gap,
        facts,
        reward_chosen=rewards.chosen,
        reward_rejected=rewards.rejected,
        gap_MB=rewards.gap_MB,
        seed=seed,
    )
    return Judged(found, gap)


def compared(judgements: Mapping[str, Judged], facts: PairFacts, *, seed: int) -> dict[str, Comparison]:
    """Each two models on the same pairs: "b - a" for every later b and earlier a."""
    return {
        f"{b} - {a}": compare(judgements[b].gap, judgements[a].gap, facts, seed=seed)
        for a, b in combinations(judgements, 2)
    }


def read_sets(
    data: Data | PairSet | Sequence[str | Path], grade: str | None, on_bad_rows: OnBadRows
) -> dict[str, PairSet]:
    """Each set of pairs by its name, with the column of graded preference that `grade` names.

    Raises:
        DataError: as `read_pairs`.
        ConfigError: there is no such column of numbers.
    """
    keep = [grade] if grade else []
    read = {name: read_pairs(each, on_bad_rows=on_bad_rows, keep=keep) for name, each in _sets(data).items()}
    if grade:
        for pairs in read.values():
            grade_of(pairs, grade)
    return read


def _sets(data: Data | PairSet | Sequence[str | Path]) -> dict[str, Data | PairSet]:
    """Each set of pairs by its name; rows in memory are called pairs."""
    if isinstance(data, str | Path):
        return {str(data): data}
    names = [] if isinstance(data, PairSet) else [each for each in data if isinstance(each, str | Path)]
    return {str(each): each for each in names} or {"pairs": data}  # type: ignore[dict-item]  # rows then


def named_models(models: Sequence[Model]) -> dict[str, Model]:
    """The models by the shortest end of their path that tells them apart; those in memory by their number.

    Raises:
        ConfigError: there is none, or one is named twice.
    """
    if not models:
        raise ConfigError("evaluate: no model. Name one with --model.")
    numbers = ("",) if len(models) == 1 else tuple(f" {number}" for number in range(1, len(models) + 1))
    parts = [
        Path(masked(model)).parts if isinstance(model, str | Path) else (f"model{number}",)
        for model, number in zip(models, numbers, strict=True)
    ]
    for depth in range(1, max(map(len, parts)) + 1):
        names = ["/".join(each[-depth:]) for each in parts]
        if len(set(names)) == len(names):
            return dict(zip(names, models, strict=True))
    raise ConfigError(f"got the same model twice, {', '.join(map(masked, models))}. Name each once.")
