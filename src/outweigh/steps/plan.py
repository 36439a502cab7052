"""What a verb would do and what it would cost, from the data itself and a timed sample."""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from outweigh.data.config import TokenConfig
from outweigh.data.files import raw_rows
from outweigh.data.pairs import Data, OnBadRows, PairSet
from outweigh.data.records import Text
from outweigh.data.tokens import encode, truncate
from outweigh.errors import DataError
from outweigh.models.ensemble import members_of
from outweigh.models.loading import load_classifier, load_tokenizer
from outweigh.models.reward import RewardModel
from outweigh.servers.config import is_server, masked
from outweigh.steps.config import AuditConfig, RunConfig
from outweigh.steps.record import described
from outweigh.steps.score import row_texts
from outweigh.steps.votes import COLUMNS
from outweigh.training.config import TrainConfig

SAMPLE = 64  # texts timed
TRAINING_PASSES = 3  # a backward pass costs about two forward ones


def planned(
    pairs: PairSet,
    *,
    of: Data,
    model: str | Path,
    tokens: TokenConfig,
    passes: float,
    writes: Sequence[str],
    layers: int | None = None,
    trust_remote_code: bool = False,
) -> dict[str, Any]:
    """The data's checks, the tokens to compute, the seconds that they would take here, and the files written.

    `passes` is the work a token in forward passes: 1 to score, 3 an epoch to train. The seconds are the time
    of 64 sampled texts, scaled: expect them to be right within a factor of two. `of` is the data that the
    pairs were read from.
    """
    model, *others = members_of(model).names  # of several as one the first is timed
    passes *= 1 + len(others)
    tokenizer = load_tokenizer(model, trust_remote_code=trust_remote_code)
    loaded = load_classifier(model, tokenizer, layers=layers, trust_remote_code=trust_remote_code)
    sampled = RewardModel(loaded, tokenizer, tokens)
    places = np.random.default_rng(0).permutation(len(pairs))[: SAMPLE // 2]
    texts: list[tuple[Text, Text]] = [
        (pairs[int(place)].prompt, side)
        for place in places
        for side in (pairs[int(place)].chosen, pairs[int(place)].rejected)
    ]
    tokens_each, seconds_each = _measured(sampled, texts)
    return {
        "data": described(of, pairs),
        "tokens": round(tokens_each * 2 * len(pairs)),
        "seconds": round(seconds_each * 2 * len(pairs) * passes, 3),
        "device": str(sampled.device),
        "writes": list(writes),
    }


def planned_scoring(
    data: Data,
    *,
    models: Sequence[str],
    writes: Sequence[str],
    parse: Any = None,
    on_bad_rows: OnBadRows = "error",
) -> dict[str, Any]:
    """The same for rows whose texts the models score; every row is parsed, as `parse` does where it is given.

    Raises:
        DataError: there is no such data, or a row is not what it should be.
    """
    rows, texts, tokens, seconds, device = 0, 0, 0.0, 0.0, ""
    sample: list[tuple[Text, Text]] = []
    rng = np.random.default_rng(0)
    for raw in raw_rows(data):
        try:
            found = row_texts(raw, parse)
        except DataError:
            if on_bad_rows == "error":
                raise
            continue
        rows += 1
        for text in found:
            texts += 1
            place = len(sample) if len(sample) < SAMPLE else int(rng.integers(texts))
            sample[place : place + 1] = [text] if place < SAMPLE else []
    if not sample:
        raise DataError("no row can be scored: all are bad, and skipped.")
    names = [each for model in models for each in members_of(model).names]
    for name in names:
        if is_server(name):
            continue  # what it takes there is not ours to tell
        loaded = RewardModel.load(name)
        tokens_each, seconds_each = _measured(loaded, sample)
        tokens += tokens_each * texts
        seconds += seconds_each * texts
        device = str(loaded.device)
    return {
        "rows": rows,
        "texts": texts,
        "tokens": round(tokens),
        "seconds": round(seconds, 1),
        "device": device,
        "served": [masked(name) for name in names if is_server(name)],
        "writes": list(writes),
    }


def _measured(model: RewardModel, texts: Sequence[tuple[Text, Text]]) -> tuple[float, float]:
    """Tokens and seconds that one of the texts takes."""
    ids = [truncate(text, model.tokens.max_tokens).ids for text in encode(texts, model.renderer)]
    model.score_ids(ids)  # the first pass warms up
    started = time.monotonic()
    model.score_ids(ids)
    return sum(map(len, ids)) / len(ids), (time.monotonic() - started) / len(ids)


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
    if "data" in plan:
        data = plan["data"]
        read = (
            f"{data['rows']:,} rows give {data['pairs']:,} pairs over {data['prompts']:,} prompts; "
            f"{data['dropped']:,} pairs are dropped, {data['bad_rows']:,} rows skipped."
        )
    else:
        read = f"{plan['rows']:,} rows have {plan['texts']:,} texts."
    served = [f"{plan['texts']:,} texts would be sent to {name}." for name in plan.get("served", ())]
    costs = f"About {plan['tokens']:,} tokens, about {plan['seconds']:,.0f} s on this {plan['device']}."
    if "evaluated_on" in plan:
        read += f" {plan['evaluated_on']:,} more are to evaluate on."
    return [
        read,
        *([costs] if plan["device"] else []),
        *served,
        *([f"Would write {', '.join(plan['writes'])}."] if plan["writes"] else []),
    ]
