"""MetaRM's step: the gradient of the loss where the model tells unlabelled responses apart more clearly."""

import hashlib
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import datasets
import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from outweigh.data.files import content_hash
from outweigh.data.pairs import read_candidates
from outweigh.data.rendering import Renderer
from outweigh.data.tokens import Item, tokenise
from outweigh.errors import ConfigError
from outweigh.objectives.meta import response_difference
from outweigh.training.collate import Batch
from outweigh.training.config import MetaConfig, TrainConfig

if TYPE_CHECKING:
    from outweigh.training.trainer import PairTrainer

Gradient = list[Tensor]  # of each trainable parameter


class MetaStep:
    """Moves the weights before a step's loss is computed, and back before the optimizer takes its gradient.

        theta' = theta + step * grad J(theta)            J: mean `response_difference` of the shifted batch
        theta <- optimizer(theta, grad L(theta'))        first order: no gradient through theta'

    `step` is eta, or rho over the length of grad J. The shifted batch of a step follows from its number, so
    that a resumed run goes on as if uninterrupted. `seen` has J of the last step, the length of its gradient,
    and `meta_change`, |grad L(theta') - grad L(theta)| over |grad L(theta)|, of one step in each log: of its
    first pairs alone, in float32, as bfloat16's rounding is some .01 of a gradient whatever the step is.

    Source: Dou et al. 2024, arXiv:2405.00438, and Wang et al. 2024, arXiv:2401.06080; rho is ours.
    """

    def __init__(self, shifted: datasets.Dataset, config: MetaConfig, seed: int) -> None:
        self.shifted = shifted
        self.config = config
        self.seed = seed
        self.seen: dict[str, float] = {}
        self._before: Gradient = []  # the weights to go back to

    def ascend(self, trainer: "PairTrainer", batches: Sequence[Batch], items: Any) -> None:
        """Nothing; the trainer's weights are theta' until `settle`."""
        weights = trainer.trainable()
        logged = trainer.state.global_step % max(1, int(trainer.args.logging_steps)) == 0
        plain = trainer.full_gradient(batches, items) if logged else None
        gradient = self._gradient_of_difference(trainer)
        difference = torch.tensor(self.seen["difference"], device=gradient[0].device)
        self.seen["difference"] = float(trainer.accelerator.reduce(difference, "mean"))
        self.seen["meta_gradient"] = float(_length(gradient))
        eta = self.config.eta
        step = eta if eta is not None else self.config.rho / max(self.seen["meta_gradient"], 1e-12)
        self._before = [weight.detach().clone() for weight in weights]
        with torch.no_grad():
            for weight, slope in zip(weights, gradient, strict=True):
                weight.add_(slope, alpha=step)
        if plain is not None:
            del gradient
            moved = trainer.full_gradient(batches, items)
            apart = _length(one - other for one, other in zip(moved, plain, strict=True))
            self.seen["meta_change"] = float(apart / _length(plain).clamp(min=1e-12))

    def settle(self, trainer: "PairTrainer") -> None:
        """Nothing; the weights are theta again, with the gradient of theta' for the optimizer."""
        weights = trainer.trainable()
        with torch.no_grad():
            for weight, before in zip(weights, self._before, strict=True):
                weight.copy_(before)
        self._before = []

    def _gradient_of_difference(self, trainer: "PairTrainer") -> Gradient:
        rank, world = trainer.accelerator.process_index, trainer.accelerator.num_processes
        places = self.places(trainer.state.global_step)
        rows: list[list[list[int]]] = self.shifted[places[rank::world]]["response_ids"]
        with trainer.same_dropout_after():  # whose gradient is the mean of the devices'
            return trainer.gradient_of(self._shares_of_difference(trainer, rows, len(places) / world))

    def _shares_of_difference(
        self, trainer: "PairTrainer", rows: list[list[list[int]]], count: float
    ) -> Iterator[Tensor]:
        """What parts of the rows bring to the sum of J over `count`, each part of as many texts as a batch of
        pairs has."""
        model = trainer.accelerator.unwrap_model(trainer.model_wrapped, keep_fp32_wrapper=False)
        part = max(1, 2 * trainer.args.per_device_train_batch_size // self.config.responses)
        self.seen["difference"] = 0.0
        for start in range(0, len(rows), part):
            own = rows[start : start + part]
            reward_R = trainer.rewards(model, [ids for row in own for ids in row])
            reward_BK = pad_sequence(
                reward_R.split([len(row) for row in own]), batch_first=True, padding_value=torch.nan
            )
            share = response_difference(reward_BK).sum() / count
            self.seen["difference"] += float(share.detach())
            yield share

    def places(self, step: int) -> np.ndarray:
        """Which rows of the shifted data the step takes: all of them once, in random order, then again."""
        count = len(self.shifted)
        batch = min(self.config.prompts, count)
        order = [
            np.random.default_rng((self.seed, turn)).permutation(count)
            for turn in (step * batch // count, step * batch // count + 1)
        ]
        start = step * batch % count
        return np.concatenate(order)[start : start + batch]


def _length(gradient: Iterable[Tensor]) -> Tensor:
    length: Tensor = torch.stack([each.norm() for each in gradient]).norm()
    return length


def meta_step(config: TrainConfig, renderer: Renderer) -> MetaStep | None:
    """The configured step, its responses tokenised; None where no shifted data is named.

    Raises:
        ConfigError: a row has fewer responses than are to be taken, or there are fewer prompts a step than
            devices.
    """
    meta = config.meta
    if meta.data is None:
        return None
    key = hashlib.sha256(f"{content_hash(meta.data)} {meta.responses}".encode()).hexdigest()
    found = tokenise(_items(meta), renderer, config.tokens, key=key)
    world = int(os.environ.get("WORLD_SIZE", "1"))  # as torchrun and accelerate launch set it
    prompts = min(meta.prompts, len(found.dataset))
    if prompts < world:
        raise ConfigError(f"meta: got {prompts} prompts a step for {world} devices, want one each or more.")
    return MetaStep(found.dataset, meta, config.seed)


def check_whole(config: TrainConfig) -> None:
    """Nothing, if the step, where there is one, will have whole weights on each device.

    Raises:
        ConfigError: they are to be sharded.
    """
    sharding = [name for name in ("fsdp", "deepspeed") if config.trainer.get(name)]
    if config.meta.data is not None and sharding:
        raise ConfigError(
            f"meta: got {sharding[0]}, which holds a part of the weights on each device; the step moves them "
            "all, and back. Train with DDP, or without meta.data."
        )


def check_responses(meta: MetaConfig) -> None:
    """Nothing, if every row of the shifted data has the responses that are to be taken of it.

    Raises:
        ConfigError, DataError: one has fewer, or is no such row.
    """
    for _ in _items(meta):
        pass


def _items(meta: MetaConfig) -> Iterator[Item]:
    for row in read_candidates(Path(str(meta.data))):
        if len(row.responses) < meta.responses:
            raise ConfigError(
                f"{row.origin}: got {len(row.responses)} responses, want {meta.responses}. Give more, "
                "or lower meta.responses."
            )
        kept = row.responses[: meta.responses]
        yield Item(row.prompt, kept, tuple(0.0 for _ in kept), row.origin)
