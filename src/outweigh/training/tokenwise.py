"""The loss at every token from the first in which two responses differ, as PCRM's code has it."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from outweigh.errors import ConfigError
from outweigh.models.loading import reads_every_token
from outweigh.training.config import TrainConfig


class TokenGaps(NamedTuple):
    """Gaps at the tokens of a batch's pairs, one pair after the other."""

    gap: Tensor  # (T,), nats, with gradient
    pair: Tensor  # (T,), which pair of the batch each is of
    sizes: Tensor  # (B,), how many each pair has


def token_gaps(rewards: Sequence[Tensor], ids: Sequence[Sequence[int]], starts: Sequence[int]) -> TokenGaps:
    """Gaps of pairs whose responses alternate, chosen first, from the rewards at each of their tokens.

    A pair's gaps are at every position from the first token in which the responses differ (the shorter one's
    last, where it begins the other) to the end of the longer one; the shorter one's last reward stands for
    the tokens that it does not have. `starts` has the tokens before each response: prompts may be cut at
    different places.

    Raises:
        ConfigError: rewards are of whole texts, as encoders give them.
    Source: Zhou et al. 2024, arXiv:2404.00978, authors' code, which reads padding there; the last reward is
        ours.
    """
    if any(len(reward) != len(row) for reward, row in zip(rewards, ids, strict=True)):
        raise ConfigError("loss_at tokens: this model has one reward a text, want a causal one, or last.")
    gaps = []
    for place in range(0, len(ids), 2):
        both = [min(start, len(ids[at]) - 1) for at, start in enumerate(starts[place : place + 2], place)]
        one, other = (ids[at][start:] for at, start in enumerate(both, place))
        chosen, rejected = (rewards[at][start:] for at, start in enumerate(both, place))
        start = min(shared_tokens(one, other), len(one) - 1, len(other) - 1)
        end = max(len(one), len(other))
        gaps.append(_reaching(chosen, end)[start:] - _reaching(rejected, end)[start:])
    sizes = torch.tensor([len(gap) for gap in gaps], device=gaps[0].device)
    pair = torch.arange(len(gaps), device=sizes.device).repeat_interleave(sizes)
    return TokenGaps(torch.cat(gaps), pair, sizes)


def check_tokens(config: TrainConfig) -> None:
    """Nothing, once a loss at every token has a model that gives a reward at every token.

    Raises:
        ConfigError: it gives one a text.
    """
    trusted = config.trust_remote_code
    if config.loss_at == "tokens" and not reads_every_token(config.backbone, trust_remote_code=trusted):
        raise ConfigError(
            f"loss_at tokens: {config.backbone} has one reward a text, want a causal one, or last."
        )


def mean_by_pair(values: Tensor, gaps: TokenGaps) -> Tensor:
    """Mean of the tokens' values, (T,), of each pair, (B,)."""
    sums = torch.zeros(len(gaps.sizes), dtype=values.dtype, device=values.device)
    return sums.index_add(0, gaps.pair, values) / gaps.sizes


def shared_tokens(one: Sequence[int], other: Sequence[int]) -> int:
    """How many tokens two texts begin with in common."""
    for place, (a, b) in enumerate(zip(one, other, strict=False)):
        if a != b:
            return place
    return min(len(one), len(other))


def _reaching(reward: Tensor, end: int) -> Tensor:
    return torch.cat([reward, reward[-1:].expand(end - len(reward))])
