"""Plackett-Luce: the likelihood of a whole ranking of K responses."""

from itertools import combinations

import torch
from torch import Tensor

from outweigh.errors import ShapeError
from outweigh.objectives.shapes import at_least_float32

MOST_TIED = 10
"""Largest group of tied responses: the exact mean over its orders visits 2^10 subsets."""


def plackett_luce(reward_BK: Tensor, rank_BK: Tensor) -> Tensor:
    """Negative log-likelihood of each row's ranking, in nats, (B,).

        loss = - sum_{k<K} [ r_k - logsumexp_{j>=k} r_j ]      with y_1 > y_2 > ... > y_K

    `rank_BK` says who stands where: lower is better, equal ranks are ties, NaN marks padding. A tie costs the
    mean over all orders of its members, computed exactly. K = 2 is Bradley-Terry.

    Raises:
        ShapeError: the shapes differ, are not (B, K), or more than 10 responses of a row are tied.
    Source: Plackett 1975; Luce 1959. The mean over a tie's orders is our choice.
    """
    if reward_BK.dim() != 2 or reward_BK.shape != rank_BK.shape:
        raise ShapeError(
            f"ranking: got rewards {tuple(reward_BK.shape)} and ranks {tuple(rank_BK.shape)}; "
            "want one shape (B, K)."
        )
    rewards = at_least_float32(reward_BK)
    return torch.stack([_one_ranking(r, k) for r, k in zip(rewards, rank_BK, strict=True)])


def _one_ranking(reward_K: Tensor, rank_K: Tensor) -> Tensor:
    present = ~torch.isnan(rank_K)
    reward_K, rank_K = reward_K[present], rank_K[present]
    loss = -reward_K.sum()
    for rank in rank_K.unique():
        tied = torch.nonzero(rank_K == rank).squeeze(-1).tolist()
        behind = torch.nonzero(rank_K > rank).squeeze(-1).tolist()
        if len(tied) > MOST_TIED:
            raise ShapeError(
                f"ranking: {len(tied)} responses share one rank, at most {MOST_TIED} may. "
                "Train with objective 'pairs', which drops ties."
            )
        # The k-th member of a tie to be placed is chosen among those left of it and all behind it. Which ones
        # are left is any subset of that size with equal chance.
        for left in range(1, len(tied) + 1):
            terms = [reward_K[[*subset, *behind]].logsumexp(0) for subset in combinations(tied, left)]
            loss = loss + torch.stack(terms).mean()
    return loss
