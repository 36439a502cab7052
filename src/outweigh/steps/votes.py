"""The configured ensemble's votes on some pairs, and how to ask it again with other labels."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from outweigh.data.pairs import PairSet
from outweigh.data.split import folds
from outweigh.errors import ConfigError
from outweigh.models.features import pair_features
from outweigh.steps.config import AuditConfig
from outweigh.voting.config import VoteConfig
from outweigh.voting.full import full_votes, model_votes
from outweigh.voting.probes import probe_votes
from outweigh.voting.scores import voters_votes, votes_from_scores
from outweigh.voting.votes import Votes

COLUMNS = "columns"
ASKED_AGAIN = (
    2  # full voters for the planted flips: each costs a training, and two rank pairs nearly as ten do
)

IntArray = NDArray[np.int64]


class Asked(NamedTuple):
    """The votes; with which folds they were given; and, where it can be asked again, how.

    `again` takes the places of the texts preferred and of the others, (B,) each, with any labels swapped.
    """

    votes: Votes
    fold_unit: str | None
    chosen_B: IntArray
    rejected_B: IntArray
    again: Callable[[IntArray, IntArray], Votes] | None


def ask(pairs: PairSet, config: AuditConfig, folder: Path) -> Asked:
    """The votes of the configured ensemble; full voters are kept in `folder`.

    Raises:
        ConfigError: `columns` among the voters, and the data has none.
    """
    how = config.votes
    here, there = np.arange(len(pairs)), np.arange(len(pairs)) + len(pairs)
    if how.voters:
        votes = _column_votes(pairs) if how.voters == (COLUMNS,) else model_votes(pairs, how.voters)
        return Asked(votes, None, here, there, None)
    fold_B, unit = _folds(pairs, how, config.seed)
    if how.method == "full":
        training = replace(config.full, backbone=how.backbone, tokens=how.tokens, seed=config.seed)

        def retrain(chosen: IntArray, rejected: IntArray) -> Votes:
            swapped = chosen > rejected
            return full_votes(
                pairs, training, folder / "planted", models=ASKED_AGAIN, fold_B=fold_B, swapped_B=swapped
            )

        votes = full_votes(pairs, training, folder, models=how.probes.models, fold_B=fold_B)
        return Asked(votes, unit, here, there, retrain)
    features = pair_features(pairs, how.backbone, how.tokens)

    def vote(chosen: IntArray, rejected: IntArray) -> Votes:
        return probe_votes(
            features.matrix_NH, chosen, rejected, config=how.probes, fold_B=fold_B, seed=config.seed
        )

    votes = vote(features.chosen_B, features.rejected_B)
    return Asked(votes, unit, features.chosen_B, features.rejected_B, vote)


def _folds(pairs: PairSet, how: VoteConfig, seed: int) -> tuple[IntArray | None, str | None]:
    if how.vote == "in-sample":
        return None, None
    found = folds(pairs, how.unit, how.folds, seed)
    return found.fold, found.unit


def _column_votes(pairs: PairSet) -> Votes:
    """Votes from the score lists, else two voters with the mean and std difference that the data gives."""
    chosen, rejected = pairs.column("chosen_scores"), pairs.column("rejected_scores")
    if chosen is not None and rejected is not None:
        return votes_from_scores(chosen.tolist(), rejected.tolist())
    mean, std = pairs.column("mean_difference"), pairs.column("std_difference")
    if mean is None:
        raise ConfigError(
            "voters columns: the data has neither 'chosen score list' and 'rejected score list' nor 'mean "
            "preference difference'. Add them, or let a model vote."
        )
    spread = np.zeros(len(pairs)) if std is None else std
    # Two voters at mean - std and mean + std have exactly this mean and this population std
    return voters_votes(np.stack([mean - spread, mean + spread]))
