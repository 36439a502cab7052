"""Margins from the gaps of the optimizer step itself: its mean is what pairs below it are asked for."""

import torch
from torch import Tensor

from outweigh.errors import ConfigError, ShapeError

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
    Source: arXiv:2511.09385, authors' code; the limit is ours.
    """
    gap, step_gap = _checked(gap, step_gap)
    mean, std = step_gap.mean(), step_gap.std(correction=0).clamp(min=1e-12)
    exponent = ((mean - gap) / std * mean).clamp(max=torch.tensor(limit).log().item())
    return torch.where(gap < mean, exponent.exp(), torch.zeros_like(gap))


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
