"""MetaRM's J: how clearly a reward model tells apart responses whose order nobody has labelled."""

import torch
from torch import Tensor

from outweigh.errors import ShapeError
from outweigh.objectives.shapes import at_least_float32


def response_difference(reward_BK: Tensor) -> Tensor:
    """J of each prompt, (B,) in [0, 1), from the rewards (B, K) of its responses; NaN marks padding.

        J = 2 / k^2  sum_{i<j} sigma(|r_i - r_j|)

    It is 0.5 (k - 1) / k where all rewards are equal, and grows with every difference.

    Raises:
        ShapeError: rewards are not (B, K), or a prompt has fewer than two.
    Source: Dou et al. 2024, arXiv:2405.00438, and Wang et al. 2024, arXiv:2401.06080, MetaRM.
    """
    if reward_BK.dim() != 2:
        raise ShapeError(f"difference: got rewards {tuple(reward_BK.shape)}, want (B, K).")
    reward_BK = at_least_float32(reward_BK)
    there_BK = ~torch.isnan(reward_BK)
    count_B = there_BK.sum(1)
    if (count_B < 2).any():
        raise ShapeError(
            f"difference: a prompt has {int(count_B.min())} responses, want two or more. Give more."
        )
    value_BK = reward_BK.where(there_BK, 0.0)
    difference_BKK = (value_BK[:, :, None] - value_BK[:, None, :]).abs()
    both_BKK = (there_BK[:, :, None] & there_BK[:, None, :]).triu(1)
    return 2 * (torch.sigmoid(difference_BKK) * both_BKK).sum((1, 2)) / count_B.square()
