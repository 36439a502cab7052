"""M small reward heads on a frozen backbone's features, trained as one tensor program."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import gelu

from outweigh.errors import DataError, ShapeError
from outweigh.objectives.pairwise import pairwise_loss
from outweigh.objectives.sources import LARGEST_FLIP_RATE
from outweigh.progress import progress
from outweigh.voting.config import ProbeConfig
from outweigh.voting.votes import FloatArray, Votes

CHUNK = 1024  # texts read at once: 50 heads of width 32 then hold 6.5 MB

IntArray = NDArray[np.integer]


class Heads:
    """A heads that map features (B, H) to rewards (B, A), each blind to the others."""

    def __init__(self, features_NH: FloatArray, used: IntArray, heads: int, config: ProbeConfig, seed: int):
        """Untrained heads for features standardised by mean and std over the `used` rows."""
        self.mean_H, self.std_H = _moments(features_NH, used)
        shapes_and_stds: list[tuple[tuple[int, ...], float]]
        hidden, generator = features_NH.shape[1], torch.Generator().manual_seed(seed)
        if config.kind == "linear":
            shapes_and_stds = [((hidden, heads), 0.0)]
        else:
            width = config.width
            shapes_and_stds = [
                ((hidden, heads * width), hidden**-0.5),
                ((heads * width,), 0.0),
                ((heads, width), width**-0.5),
            ]
        self.parameters = [
            (torch.randn(shape, generator=generator) * std).requires_grad_() for shape, std in shapes_and_stds
        ]

    def __call__(self, features_BH: FloatArray) -> Tensor:
        """Rewards (B, A), in nats."""
        values_BH = (torch.from_numpy(np.array(features_BH, dtype=np.float32)) - self.mean_H) / self.std_H
        if len(self.parameters) == 1:
            return values_BH @ self.parameters[0]
        inner, bias, outer = self.parameters
        hidden_BAW = gelu(torch.addmm(bias, values_BH, inner)).view(-1, *outer.shape)
        return (hidden_BAW * outer).sum(-1)

    @torch.inference_mode()
    def rewards(self, features_NH: FloatArray) -> NDArray[np.float32]:
        """Rewards (N, A) of every text, read a chunk at a time."""
        starts = range(0, len(features_NH), CHUNK)
        return np.concatenate([self(features_NH[start : start + CHUNK]).numpy() for start in starts])


def probe_votes(
    features_NH: FloatArray,
    chosen_B: IntArray,
    rejected_B: IntArray,
    *,
    config: ProbeConfig,
    fold_B: IntArray | None = None,
    group_B: IntArray | None = None,
    wrong_B: FloatArray | None = None,
    seed: int = 0,
) -> Votes:
    """Votes of M heads on B pairs of the N texts whose features are given (an array or a memory map).

    Each head trains on its own bootstrap sample: every pair counts Poisson(1) times, so all heads share a
    batch and one matrix product, and about 37 % of them have not seen a given pair (`Votes.unseen_MB`).
    Pairs of one group, numbered from 0, count alike: where one gives away another's label, a head has seen
    both or neither. Without groups each pair is its own.
    Without folds all heads vote on every pair (in-sample, as published). With folds, M heads a fold are
    trained without it and vote on its pairs alone (out-of-fold).
    Where `wrong_B` says how probably each label is wrong, the heads are taught the likelier one, with the
    other's probability as flip rate; the votes stay on the labels as given.

    Raises:
        ShapeError: the index arrays are not both (B,), or folds, groups or wrong probabilities have another
            shape.
        DataError: no pairs, an index outside the features, or a feature that is not finite.
    Source: Wang et al. 2024, arXiv:2401.06080, section 2.2, for the vote; heads instead of whole models,
        the bootstrap, the folds and the taught labels are ours.
    """
    pairs, models = len(chosen_B), config.models
    group_B = np.arange(pairs) if group_B is None else group_B
    _check(features_NH, chosen_B, rejected_B, fold_B, group_B, wrong_B)
    groups = int(group_B.max()) + 1
    drawn_GM = torch.poisson(torch.ones(groups, models), torch.Generator().manual_seed(seed))
    drawn_BM = drawn_GM[torch.from_numpy(group_B)]
    if fold_B is None:
        weight_BA = drawn_BM
        own_BM = np.broadcast_to(np.arange(models), (pairs, models))
    else:
        _, place_B = np.unique(fold_B, return_inverse=True)
        folds = int(place_B.max()) + 1
        trained_BK = torch.from_numpy(place_B)[:, None] != torch.arange(folds)
        weight_BA = (trained_BK[:, :, None] * drawn_BM[:, None, :]).flatten(1)  # head k * M + m
        own_BM = place_B[:, None] * models + np.arange(models)
    epoch_gaps: list[FloatArray] = []
    gap_BM = np.empty((pairs, models), dtype=np.float32)

    def read(heads: Heads) -> None:
        reward_NA = heads.rewards(features_NH)
        gap_BM[:] = reward_NA[chosen_B[:, None], own_BM] - reward_NA[rejected_B[:, None], own_BM]
        epoch_gaps.append(gap_BM.mean(axis=1))

    wrong_B = np.zeros(pairs) if wrong_B is None else wrong_B
    turned_B, flip_rate_B = wrong_B > 0.5, np.minimum(np.minimum(wrong_B, 1 - wrong_B), LARGEST_FLIP_RATE)
    fit_heads(
        features_NH,
        np.where(turned_B, rejected_B, chosen_B),
        np.where(turned_B, chosen_B, rejected_B),
        config=config,
        seed=seed,
        weight_BA=weight_BA,
        flip_rate_B=torch.from_numpy(flip_rate_B).float(),
        after_epoch=read,
    )
    unseen_BM = np.take_along_axis(weight_BA.numpy(), own_BM, axis=1) == 0
    return Votes(gap_BM.T, unseen_BM.T, np.stack(epoch_gaps))


def fit_heads(
    features_NH: FloatArray,
    chosen_B: IntArray,
    rejected_B: IntArray,
    *,
    config: ProbeConfig,
    seed: int,
    weight_BA: Tensor,
    margin_B: Tensor | None = None,
    flip_rate_B: Tensor | None = None,
    after_epoch: Callable[[Heads], None] = lambda heads: None,
) -> Heads:
    """A heads trained on B pairs by the pairwise loss; `weight_BA` says how much each pair counts for each.

    A head's loss of a step is the sum over its weighted pairs divided by the number of pairs in the step.
    """
    pairs, count = weight_BA.shape
    margin_B = torch.zeros(pairs) if margin_B is None else margin_B
    flip_rate_B = torch.zeros(pairs) if flip_rate_B is None else flip_rate_B
    heads = Heads(features_NH, np.union1d(chosen_B, rejected_B), count, config, seed)
    optimizer = torch.optim.AdamW(
        heads.parameters, lr=config.learning_rate, weight_decay=config.weight_decay, fused=True
    )
    generator = torch.Generator().manual_seed(seed)
    with progress("probes", config.epochs * pairs) as advance, one_thread():
        for _ in range(config.epochs):
            for batch in torch.randperm(pairs, generator=generator).split(config.batch_pairs):
                texts = np.concatenate([chosen_B[batch.numpy()], rejected_B[batch.numpy()]])
                chosen_BA, rejected_BA = heads(features_NH[texts]).chunk(2)
                loss = pairwise_loss(
                    (chosen_BA - rejected_BA).flatten(),
                    margin=margin_B[batch].repeat_interleave(count),
                    flip_rate=flip_rate_B[batch].repeat_interleave(count),
                    weight=weight_BA[batch].flatten(),
                )
                optimizer.zero_grad()
                (loss.sum() / len(batch)).backward()
                optimizer.step()
                advance(len(batch))
            after_epoch(heads)
    return heads


@contextmanager
def one_thread() -> Iterator[None]:
    """One thread inside: the products are small, and where other programs are at work threads that wait for
    each other made them 90 times slower. It also makes sums the same on every machine.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _moments(features_NH: FloatArray, used: IntArray) -> tuple[Tensor, Tensor]:
    """Mean and std of each feature over the used rows, read a chunk at a time; constant ones get std 1."""
    total = np.zeros(features_NH.shape[1])
    squares = np.zeros_like(total)
    origin = np.asarray(features_NH[used[0]], dtype=np.float64)  # keeps the subtraction of squares exact
    for start in range(0, len(used), CHUNK):
        part = features_NH[used[start : start + CHUNK]].astype(np.float64) - origin
        total += part.sum(axis=0)
        squares += (part**2).sum(axis=0)
    if not np.isfinite(squares).all():
        raise DataError("features: a value is not finite, want numbers. Compute them in float32.")
    mean = total / len(used)
    std = np.sqrt(np.maximum(squares / len(used) - mean**2, 0))
    std[std < 1e-6 * (1 + np.abs(origin))] = 1.0
    return torch.tensor(mean + origin, dtype=torch.float32), torch.tensor(std, dtype=torch.float32)


def _check(
    features_NH: FloatArray,
    chosen_B: IntArray,
    rejected_B: IntArray,
    fold_B: IntArray | None,
    group_B: IntArray,
    wrong_B: FloatArray | None,
) -> None:
    if features_NH.ndim != 2 or chosen_B.ndim != 1 or chosen_B.shape != rejected_B.shape:
        raise ShapeError(
            f"probes: got features {features_NH.shape}, chosen {chosen_B.shape}, rejected "
            f"{rejected_B.shape}; want (N, H), (B,) and (B,)."
        )
    if fold_B is not None and (fold_B.shape != chosen_B.shape or len(np.unique(fold_B)) < 2):
        raise ShapeError(
            f"probes: got folds {fold_B.shape} with {len(np.unique(fold_B))} different, "
            f"want {chosen_B.shape} with at least 2."
        )
    if group_B.shape != chosen_B.shape:
        raise ShapeError(f"probes: got groups {group_B.shape}, want {chosen_B.shape}.")
    if wrong_B is not None and wrong_B.shape != chosen_B.shape:
        raise ShapeError(f"probes: got wrong probabilities {wrong_B.shape}, want {chosen_B.shape}.")
    if not len(chosen_B):
        raise DataError("probes: got no pairs, want at least one. Give data.")
    low = min(int(chosen_B.min()), int(rejected_B.min()))
    high = max(int(chosen_B.max()), int(rejected_B.max()))
    if low < 0 or high >= len(features_NH):
        raise DataError(f"probes: got indices {low} to {high}, want 0 to {len(features_NH) - 1}.")
