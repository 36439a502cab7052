"""Several reward models as one: their mean, or less where they disagree; or the average of their weights."""

import logging
import math
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from outweigh.data.records import Text
from outweigh.errors import ConfigError
from outweigh.models.reward import RewardModel, Scorer, Taken
from outweigh.models.served import ServedReward
from outweigh.servers.config import ServerConfig, is_server, masked

logger = logging.getLogger(__name__)

PENALTY = 0.5
"""Of the variance, in uwo: what the source has for best-of-n; for reinforcement learning it has 0.1."""

COMBINE: dict[str, Callable[[np.ndarray, float], np.ndarray]] = {
    "mean": lambda reward_MN, penalty: reward_MN.mean(axis=0),
    "wco": lambda reward_MN, penalty: reward_MN.min(axis=0),
    "uwo": lambda reward_MN, penalty: reward_MN.mean(axis=0) - penalty * reward_MN.var(axis=0),
}
"""Rewards (M, N) -> (N,). wco: the worst case; uwo: the mean less the variance times the penalty.
Source: Coste et al. 2023, arXiv:2310.02743."""
NAMED = re.compile(r"(\w+)(?:\(([^)]*)\))?:(.+)")
"""How an ensemble is named: `mean:A,B`, or with its penalty `uwo(0.1):A,B`."""
WARM = "warm"


class Ensemble(Scorer):
    """M reward models as one.

    A gap leaves a model's rewards free to shift, so all are first brought to one level: from each its mean
    reward on the first texts that it was trained on is taken away.

    Raises:
        ConfigError: no such combination, fewer than two members, or, but for the mean, one of unknown level.
    """

    def __init__(self, members: Sequence[Scorer], combine: str = "mean", *, penalty: float = PENALTY) -> None:
        if combine not in COMBINE:
            raise ConfigError(f"ensemble: got {combine!r}, want one of {', '.join((*COMBINE, WARM))}.")
        if len(members) < 2:
            raise ConfigError(f"ensemble {combine}: got {len(members)} models, want two or more.")
        if combine != "mean" and any(member.origin is None for member in members):
            raise ConfigError(
                f"ensemble {combine}: a model does not say at what level its rewards lie, so it can't be "
                "laid beside others. Take models that outweigh trained, or the mean."
            )
        if any(member.origin is None for member in members):
            logger.warning(
                "ensemble: a model does not say at what level its rewards lie. The spread between the models "
                "then holds how far their levels are apart."
            )
        self.members = members
        self.combine = combine
        self.penalty = penalty

    def score_each(self, texts: Sequence[tuple[Text, Text]]) -> np.ndarray:
        """Reward of each (prompt, response) by each member, at one level, float64 (M, N)."""
        return self._levelled([member.score_texts(texts) for member in self.members])

    def score_taken(self, texts: Sequence[tuple[Text, Text]], *, skip: bool) -> Taken:
        """The same, but for texts that the server of a member refuses."""
        found = [member.score_taken(texts, skip=skip) for member in self.members]
        refused = {place: why for each in found for place, why in each.refused.items()}
        return Taken(self._levelled([each.reward_MN[0] for each in found]), refused)

    def _levelled(self, rewards: Sequence[np.ndarray]) -> np.ndarray:
        levels = [member.origin.level if member.origin else 0.0 for member in self.members]
        return np.stack([reward_N - level for reward_N, level in zip(rewards, levels, strict=True)])

    def combined(self, reward_MN: np.ndarray) -> np.ndarray:
        """The ensemble's rewards (N,), where its members give these."""
        return COMBINE[self.combine](reward_MN, self.penalty)

    def score_texts(self, texts: Sequence[tuple[Text, Text]]) -> np.ndarray:
        """Reward of each (prompt, response), float64 (N,)."""
        return self.combined(self.score_each(texts))


def averaged(members: Sequence[Scorer]) -> RewardModel:
    """The first member, its weights now the mean of all; it costs no more than one of them.

    Raises:
        ConfigError: fewer than two members, or they were not trained from one checkpoint: then their weights
            lie in different places for the same thing, and the mean is none of both.
    Source: Rame et al. 2024, arXiv:2401.12187 (WARM).
    """
    bases = {member.origin.base if member.origin else None for member in members}
    if len(members) < 2 or len(bases) != 1 or None in bases:
        raise ConfigError(
            f"ensemble warm: got {len(members)} models from {len(bases)} checkpoints, want two or more that "
            "outweigh trained from one."
        )
    first, *others = (member for member in members if isinstance(member, RewardModel))
    weights = [dict(member.model.named_parameters()) for member in others]
    with torch.no_grad():
        for name, weight in first.model.named_parameters():
            weight.copy_(torch.stack([weight, *(each[name] for each in weights)]).mean(0))
    first.origin = None
    return first


class Members(NamedTuple):
    """How a name combines models, None for one alone, with which penalty, and which they are."""

    combine: str | None
    penalty: float
    names: list[str]


def members_of(name: str | Path) -> Members:
    """What a name says: `uwo:A,B` is uwo of A and B, `uwo(0.1):A,B` with that penalty; others are one model.

    Raises:
        ConfigError: the penalty is no number of 0 or more, or not uwo's; or there is no name beside a comma.
    """
    found = NAMED.fullmatch(str(name))
    if found is None or found[1] not in (*COMBINE, WARM):
        return Members(None, PENALTY, [str(name)])
    combine, told, names = found.groups()
    try:
        penalty = PENALTY if told is None else float(told)
    except ValueError:
        penalty = -1.0
    if not 0 <= penalty < math.inf or (told is not None and combine != "uwo"):
        raise ConfigError(f"ensemble {name}: got ({told}), want the penalty of uwo, as in uwo(0.1):A,B.")
    members = names.split(",")
    if "" in members:
        raise ConfigError(f"ensemble {masked(name)}: names no model beside a comma, want {combine}:A,B.")
    return Members(combine, penalty, members)


def load_scorer(name: str | Path | Scorer, server: ServerConfig | None = None) -> Scorer:
    """A reward model, or several as `mean:A,B`, `wco:A,B`, `uwo:A,B`, `uwo(0.1):A,B` with its penalty, or
    `warm:A,B`; one in memory as it is.

    Each is a folder, a Hub name, or the URL of a served one (see `ServedReward`), asked as `server` says.

    Raises:
        ModelError: one can't be loaded.
        ConfigError: they can't be taken together, or the URL is of no reward model.
    """
    if isinstance(name, Scorer):
        return name
    how, penalty, names = members_of(name)
    members = [ServedReward(each, server) if is_server(each) else RewardModel.load(each) for each in names]
    if how is None:
        return members[0]
    return averaged(members) if how == WARM else Ensemble(members, how, penalty=penalty)
