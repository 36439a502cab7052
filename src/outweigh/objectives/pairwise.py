"""The one pairwise equation, of which every logistic method is a setting.

>>> gap = torch.tensor([2.0, -1.0])                       # chosen - rejected, in nats
>>> pairwise_loss(gap)                                    # Bradley-Terry
tensor([0.1269, 1.3133])
>>> pairwise_loss(gap, margin=1.0, flip_rate=torch.tensor([0.0, 0.3]))
tensor([0.3133, 1.5269])
"""

import torch
from torch import Tensor
from torch.nn.functional import softplus

from outweigh.objectives.shapes import at_least_float32, check_pairs


def pairwise_loss(
    gap: Tensor,
    *,
    margin: Tensor | float = 0.0,
    flip_rate: Tensor | float = 0.0,
    cap: Tensor | float | None = None,
    weight: Tensor | float = 1.0,
) -> Tensor:
    """Loss of each pair, in nats, from its gap chosen - rejected.

        weight * [ (1 - flip_rate) softplus(margin - gap) + flip_rate softplus(gap - margin)
                   + softplus(gap - cap) ]

    All are (B,), in nats of log-odds but for flip_rate, a probability in [0, 0.5), and weight, at least 0.
    With every default it is Bradley-Terry; without a cap the last term is absent. With a flip rate and a cap
    together the cap's term stays unsmoothed. A step's loss is the sum over its pairs divided by their number.

    Raises:
        ShapeError: the tensors are not all of one shape (B,).
    Source: METHODS section 0 [reconstructed: the common form of the papers' losses]; margin: Wang et al.
        2024, arXiv:2401.06080, section 2.5; cap: Zhou et al. 2024, arXiv:2404.00978, section 4.1;
        flip_rate: Mitchell 2023, a note on DPO with noisy preferences, equation 3, on reward gaps.
    """
    check_pairs(gap=gap, margin=margin, flip_rate=flip_rate, cap=cap, weight=weight)
    gap = at_least_float32(gap)  # bf16 has 8 bits: gaps of 5 and 5.03 would be one number
    beyond = gap - margin
    # softplus(x) - softplus(-x) = x, so one softplus serves both labels
    loss = softplus(-beyond) + flip_rate * beyond
    if cap is not None:
        loss = loss + softplus(gap - cap)
    return weight * loss


def squared_loss(gap: Tensor, *, beta: float, weight: Tensor | float = 1.0) -> Tensor:
    """IPO's loss of each pair, (B,), from its gap beta * h; it rests at a gap of one half.

        weight * (h - 1 / (2 beta))^2 = weight * ((gap - 1/2) / beta)^2

    h is the difference of the two responses' log-ratios policy / reference: of their means over tokens, as
    TRL takes it, or of their sums, as published. The equation's margin, flip rate and cap have no place here.

    Raises:
        ShapeError: the tensors are not all of one shape (B,).
    Source: Azar et al. 2023, arXiv:2310.12036, equation 17.
    """
    check_pairs(gap=gap, weight=weight)
    return weight * torch.square((at_least_float32(gap) - 0.5) / beta)


def squared_reward_sum(reward_chosen: Tensor, reward_rejected: Tensor) -> Tensor:
    """Centring term of each pair, (r_chosen + r_rejected)^2, in squared nats.

    A gap leaves both rewards free to drift together; this term, added with a small coefficient, fixes their
    sum near 0. All are (B,).

    Raises:
        ShapeError: the tensors are not both of one shape (B,).
    Source: Eisenstein et al. 2023, arXiv:2312.09244, the zero-sum regulariser of reward model ensembles.
    """
    check_pairs(reward_chosen=reward_chosen, reward_rejected=reward_rejected)
    return torch.square(at_least_float32(reward_chosen) + at_least_float32(reward_rejected))
