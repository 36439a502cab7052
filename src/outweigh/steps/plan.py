"""What a verb would do and what it would cost, from the data itself and a timed sample."""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from outweigh.data.config import TokenConfig
from outweigh.data.pairs import Data, OnBadRows, read_pairs
from outweigh.data.records import Text
from outweigh.data.tokens import encode, truncate
from outweigh.models.ensemble import members_of
from outweigh.models.loading import load_classifier, load_tokenizer
from outweigh.models.reward import RewardModel
from outweigh.steps.config import AuditConfig, RunConfig
from outweigh.steps.record import described
from outweigh.steps.votes import COLUMNS
from outweigh.training.config import TrainConfig

SAMPLE = 64  # texts timed
TRAINING_PASSES = 3  # a backward pass costs about two forward ones


def planned(
    data: Data,
    *,
    model: str | Path,
    tokens: TokenConfig,
    passes: float,
    writes: Sequence[str],
    layers: int | None = None,
    on_bad_rows: OnBadRows = "error",
) -> dict[str, Any]:
    """The data's checks, the tokens to compute, the seconds that they would take here, and the files written.

    `passes` is the work a token in forward passes: 1 to score, 3 an epoch to train. The seconds are the time
    of 64 sampled texts, scaled: expect them to be right within a factor of two.
    """
    pairs = read_pairs(data, on_bad_rows=on_bad_rows)
    _, (model, *others) = members_of(model)  # of several as one the first is timed
    passes *= 1 + len(others)
    tokenizer = load_tokenizer(model)
    sampled = RewardModel(load_classifier(model, tokenizer, layers=layers), tokenizer, tokens)
    places = np.random.default_rng(0).permutation(len(pairs))[: SAMPLE // 2]
    texts: list[tuple[Text, Text]] = [
        (pairs[int(place)].prompt, side)
        for place in places
        for side in (pairs[int(place)].chosen, pairs[int(place)].rejected)
    ]
    ids = [truncate(text, tokens.max_tokens).ids for text in encode(texts, sampled.renderer)]
    sampled.score_ids(ids)  # the first pass warms up
    started = time.monotonic()
    sampled.score_ids(ids)
    seconds = time.monotonic() - started
    count = sum(map(len, ids)) / len(ids) * 2 * len(pairs)
    return {
        "data": described(data, pairs),
        "tokens": round(count),
        "seconds": round(seconds / len(ids) * 2 * len(pairs) * passes, 1),
        "device": str(sampled.device),
        "writes": list(writes),
    }


def passes(audit: AuditConfig, training: TrainConfig, *, given: int = 0) -> float:
    """Forward passes that an audit costs; `given` full voters are trained already."""
    votes = audit.votes
    if votes.voters:
        return 0.0 if votes.voters == (COLUMNS,) else float(len(votes.voters))
    if votes.method in ("auto", "probes"):
        return 1.0
    scored = votes.trainings + audit.trust  # one more voter learns planted flips
    trained = scored - given
    if votes.vote == "out-of-fold":  # each pair's voters see the other folds
        return (trained + given) * votes.folds * TRAINING_PASSES * training.epochs + scored
    return 1 + trained * TRAINING_PASSES * training.epochs + scored


def run_passes(config: RunConfig) -> float:
    """Forward passes that a run costs at most: the plain training, the audit, and the training repaired."""
    trainings = 2 * TRAINING_PASSES * config.train.epochs
    return trainings + passes(config.audit, config.train, given=1)


def plan_lines(plan: Mapping[str, Any]) -> list[str]:
    """The plan in words."""
    data = plan["data"]
    return [
        f"{data['rows']:,} rows give {data['pairs']:,} pairs over {data['prompts']:,} prompts; "
        f"{data['dropped']:,} pairs are dropped, {data['bad_rows']:,} rows skipped.",
        f"About {plan['tokens']:,} tokens, about {plan['seconds']:,.0f} s on this {plan['device']}.",
        f"Would write {', '.join(plan['writes'])}.",
    ]
