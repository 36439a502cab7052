"""What is of the whole optimizer step: margins from its gaps, and a term that keeps its rewards near 0."""

import torch
from torch import Tensor

from outweigh.errors import ConfigError, ShapeError
from outweigh.objectives.shapes import at_least_float32

LARGEST = 10.0
"""Nats; the exponential margin overflows without a limit. Ours: the source has none."""


def batch_margin(
    gap: Tensor,
    step_gap: Tensor,
    *,
    threshold: str | float | None = "mean",
    clamp: bool = True,
    scale: float = 1.0,
) -> Tensor:
    """The mean gap of the step as margin for pairs below the threshold, else 0; (B,) in nats.

        margin_i = scale * mean(step_gap)   if gap_i < threshold,   else 0

    `gap` (B,) are these pairs' gaps, `step_gap` (S,) those of all pairs of the optimizer step, over devices
    and accumulation. `threshold` is mean, a quantile in (0, 1) of the step's gaps, or none for all pairs.
    With `clamp` a negative mean counts as 0: early in training it would relax the loss. No gradient.

    Raises:
        ShapeError: the step has one pair, whose mean is its own gap.
        ConfigError: no such threshold.
    Source: arXiv:2404.04932, equations 4 to 7 [reconstructed: from summaries, and a later paper of one
        author; margin and threshold are well attested, the detaching less]. Clamp, quantile, scale are ours.
    """
    gap, step_gap = _checked(gap, step_gap)
    mean = step_gap.mean()
    below = _below(gap, step_gap, threshold)
    margin = scale * (mean.clamp(min=0) if clamp else mean)
    return torch.where(below, margin, torch.zeros_like(gap))


def exponential_batch_margin(gap: Tensor, step_gap: Tensor, *, limit: float = LARGEST) -> Tensor:
    """A margin that grows with how far a pair stands below the step's mean gap, else 0; (B,) in nats.

        margin_i = min(limit, exp( (mean - gap_i) / std * mean ))   if gap_i < mean,   else 0

    Raises:
        ShapeError: the step has one pair.
        ConfigError: the limit is not above 0.
    Source: arXiv:2511.09385, authors' code; the limit is ours.
    """
    if not limit > 0:
        raise ConfigError(f"limit: got {limit}, want more than 0.")
    gap, step_gap = _checked(gap, step_gap)
    mean, std = step_gap.mean(), step_gap.std(correction=0).clamp(min=1e-12)
    exponent = ((mean - gap) / std * mean).clamp(max=torch.tensor(limit).log().item())
    return torch.where(gap < mean, exponent.exp(), torch.zeros_like(gap))


def batch_sum(chosen: Tensor, rejected: Tensor, step_sum: Tensor) -> Tensor:
    """Batch sum-to-zero regularisation (BSR) of each pair, (B,), in squared nats.

    Its mean over the step's S pairs, and the gradient that each pair has of that, are those of

        S * mean(rewards)^2          over all 2 S rewards of the step

    `chosen` and `rejected` (B,) are these pairs' rewards, `step_sum` (S,) the sums r_chosen + r_rejected of
    all pairs of the optimizer step, over devices and accumulation. The authors try coefficients of 1e-4, 1e-3
    and 1e-2, and train with 1e-3.

    Raises:
        ShapeError: the tensors are not of shapes (B,), (B,) and (S,).
    Source: Hong et al. 2025, arXiv:2505.07271, section 4.2, times the number of pairs as in the authors'
        code; there the batch is a device's, here the step's.
    """
    if chosen.dim() != 1 or chosen.shape != rejected.shape or step_sum.dim() != 1:
        raise ShapeError(
            f"batch sum: got rewards {tuple(chosen.shape)} and {tuple(rejected.shape)} of a step "
            f"{tuple(step_sum.shape)}, want (B,), (B,) and (S,)."
        )
    mean = at_least_float32(step_sum).detach().mean() / 2
    own = at_least_float32(chosen) + at_least_float32(rejected)
    return len(step_sum) * mean * (mean + own - own.detach())  # the step's value, this pair's gradient


def _checked(gap: Tensor, step_gap: Tensor) -> tuple[Tensor, Tensor]:
    if gap.dim() != 1 or step_gap.dim() != 1 or len(step_gap) < 2:
        raise ShapeError(
            f"batch margin: got gaps {tuple(gap.shape)} of a step {tuple(step_gap.shape)}, want (B,) and "
            "(S,) with S of two or more. Take more pairs a step."
        )
    return gap.detach(), step_gap.detach()


def _below(gap: Tensor, step_gap: Tensor, threshold: str | float | None) -> Tensor:
    if threshold in (None, "none"):
        return torch.ones_like(gap, dtype=torch.bool)
    if threshold == "mean":
        return gap < step_gap.mean()
    if isinstance(threshold, float) and 0 < threshold < 1:
        return gap < torch.quantile(step_gap.float(), threshold)
    raise ConfigError(
        f"batch margin, threshold: got {threshold!r}, want mean, none, or a number between 0 and 1."
    )
