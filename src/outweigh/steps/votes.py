"""The configured ensemble's votes on some pairs, and on labels of which some were swapped."""

import logging
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from outweigh.auditing.noise import estimate_noise
from outweigh.auditing.trust import Trial, planted_flips
from outweigh.auditing.wrong import wrong_probability
from outweigh.data.pairs import PairSet
from outweigh.data.split import folds, label_groups
from outweigh.errors import ConfigError
from outweigh.metrics.arrays import BoolArray, IntArray
from outweigh.models.features import Encoder, Features, checkpoint_identity, given_features, pair_features
from outweigh.steps.config import AuditConfig
from outweigh.training.config import TrainConfig
from outweigh.voting.config import ProbeConfig, VoteConfig
from outweigh.voting.full import Panel, full_votes, model_votes
from outweigh.voting.probes import probe_votes
from outweigh.voting.scores import voters_votes, votes_from_scores
from outweigh.voting.votes import FloatArray, Votes, held_out_strength, joined

logger = logging.getLogger(__name__)

COLUMNS = "columns"


class Asked(NamedTuple):
    """The votes; with which folds they were given; those on planted flips, where asked for; on whose features
    or weights the voters stand."""

    votes: Votes
    fold_unit: str | None
    trial: Trial | None
    backbone: str | None


def ask(
    pairs: PairSet,
    config: AuditConfig,
    training: TrainConfig,
    folder: Path | None,
    first_gap_B: FloatArray | None = None,
) -> Asked:
    """The votes of the configured ensemble.

    Full voters train as `training` says and are kept in `folder`; of the first the gaps may be there already.
    In sample they have seen every label, so the probes, out of their bags, are witness beside them.

    Raises:
        ConfigError: `columns` among the voters, and the data has none.
    """
    how = config.votes
    if how.voters:
        votes = _column_votes(pairs) if how.voters == (COLUMNS,) else model_votes(pairs, how.voters)
        return Asked(votes, None, None, None)
    none = np.zeros(len(pairs), dtype=bool)
    fold_B, unit = _folds(pairs, how, config.seed)
    group_B = label_groups(pairs)

    def probes(swapped: BoolArray, heads: ProbeConfig = how.probes) -> Votes:
        return head_votes(features.swapped(swapped), heads, fold_B=fold_B, group_B=group_B, seed=config.seed)

    backbone = training.backbone if how.method == "full" else how.backbone
    if how.method == "probes" or fold_B is None:
        encoder = Encoder(backbone=how.backbone, tokens=how.tokens, depth=how.depth)
        given = given_features(pairs)
        if given is not None and how.method == "probes":
            backbone = "features_chosen"
            logger.warning("The probes read features_chosen and features_rejected, not the texts.")
        features = given or pair_features(pairs, encoder)
    flipped = planted_flips(len(pairs), config.seed)
    if how.method == "probes":
        return Asked(probes(none), unit, Trial(flipped, probes(flipped)) if config.trust else None, backbone)
    panels = [Panel(range(how.trainings), none, None if fold_B is not None else first_gap_B)]
    if config.trust:
        # A voter of its own: who learns planted flips votes worse on the other pairs, too
        panels.append(Panel([how.trainings], flipped))
    found = full_votes(pairs, training, folder, panels, fold_B=fold_B, jobs=how.jobs)
    if fold_B is None:
        # A witness says what it held of labels unseen, which a second look adds nothing to
        looks = replace(how.probes, second_look=how.probes.second_look and how.witness_votes)
        for place, panel in enumerate(panels):
            heads = probes(panel.swapped_B, looks)
            votes = joined(found[place], heads) if how.witness_votes else found[place]
            found[place] = replace(votes, witness_B=held_out_strength(heads))
    return Asked(found[0], unit, Trial(flipped, found[1]) if config.trust else None, backbone)


def check_voters(pairs: PairSet, config: AuditConfig) -> None:
    """Nothing, if every model that will vote beside those to be trained is there.

    Raises:
        ModelError: one is not.
    """
    how = config.votes
    has_probes = how.method == "probes" or how.vote == "in-sample"
    reads_texts = has_probes and given_features(pairs) is None
    for name in how.voters or ((how.backbone,) if reads_texts else ()):
        if name != COLUMNS:
            checkpoint_identity(name)


def head_votes(
    features: Features,
    config: ProbeConfig,
    *,
    fold_B: IntArray | None = None,
    group_B: IntArray | None = None,
    seed: int = 0,
) -> Votes:
    """The votes of M heads on the features; with a second look of 2 M: M more were taught what the first
    make of each label, and have seen all of them by that.

    The noise rate and each label's probability in between are what an audit of the first look would say.
    Folds and groups are as for `probe_votes`.
    """
    look = partial(probe_votes, *features, config=config, fold_B=fold_B, group_B=group_B)
    first = look(seed=seed)
    if not config.second_look:
        return first
    noise = estimate_noise(held_out_strength(first), np.arange(len(features.chosen_B)), seed=seed)
    second = look(wrong_B=wrong_probability(first, noise), seed=seed + 1)
    unseen_MB = np.concatenate([first.unseen_MB, np.zeros_like(second.unseen_MB)])
    return replace(first, gap_MB=np.concatenate([first.gap_MB, second.gap_MB]), unseen_MB=unseen_MB)


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
