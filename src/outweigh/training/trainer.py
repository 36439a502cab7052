"""A transformers.Trainer that knows pairs; what a method adds is a source, never a flag here."""

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from accelerate.utils import gather_object
from numpy.typing import NDArray
from torch import Tensor, nn

from outweigh.errors import ConfigError
from outweigh.models.batches import forwards, read_texts, run_forward, token_budget
from outweigh.models.packing import choose_attention
from outweigh.models.rows import Trees
from outweigh.objectives.listwise import plackett_luce
from outweigh.objectives.sources import AUXILIARY, LIVE, OF_STEP, Bound
from outweigh.training.collate import Batch, Collator, counted, counted_first, items_of, parts, responses
from outweigh.training.contrast import Contrast
from outweigh.training.evaluating import EvaluatingTrainer
from outweigh.training.memory import fitting_tokens, reserved_bytes
from outweigh.training.meta import MetaStep
from outweigh.training.objective import Objective
from outweigh.training.repeats import counted_before, counted_rows, mark_repeats
from outweigh.training.tokenwise import TokenGaps, mean_by_pair, token_gaps
from outweigh.training.window import Window

FEW_TOKENS = 512
"""Of the pairs by which MetaRM's change is measured: full precision takes several times as long."""


class Seen(NamedTuple):
    """What the model says of a batch of R responses, in each of V views."""

    rewards: Tensor  # (V, R)
    features: Tensor | None = None  # (V, R, H), where there is a contrastive term
    tokens: TokenGaps | None = None  # where the loss is at every token


class _Whole(NamedTuple):
    """What a first pass saw of the whole step, over devices and batches, without gradient."""

    reward: Tensor  # (S, 2), chosen and rejected
    features: Tensor | None  # (responses, views, H), where there is a contrastive term
    before: int  # responses of the devices before this one


class PairTrainer(EvaluatingTrainer):
    """Trains a model whose `logits` are rewards on items of K responses.

    A step's loss is the sum over its items divided by their number, over all devices and accumulated
    batches: never a mean of means. Each forward takes responses of like length up to a token budget, which
    changes nothing but rounding and saves most of the padding.
    """

    def __init__(
        self,
        *,
        objective: Objective,
        pad_token: int,
        columns: Mapping[str, np.ndarray],
        keeps_best: bool = False,
        meta: MetaStep | None = None,
        contrast: Contrast | None = None,
        layer: nn.Module,
        max_tokens: int,
        at_tokens: bool = False,
        **kwargs: Any,
    ) -> None:
        stored = [need for need in objective.needs if need not in LIVE]
        super().__init__(data_collator=Collator({name: columns[name] for name in stored}), **kwargs)
        self.objective: Objective = objective
        self.pad_token = pad_token
        self.keeps_best = keeps_best
        self.meta = meta
        self.contrast = contrast
        self.layer = layer  # whose output is the reward
        self.at_tokens = at_tokens  # the loss
        self.model_accepts_loss_kwargs = True
        self.loss_is_scaled_for_ga = True
        whole_weights = meta is not None or (contrast is not None and contrast.prototype_KH is not None)
        if whole_weights and self.is_sharded:
            raise ConfigError("meta, or contrast swav: needs whole weights on each device. Train with DDP.")
        self.packs = choose_attention(
            self.model,
            layer,
            self.args.device,
            torch.bfloat16 if self.args.bf16 else None,
            max_tokens,  # of a text
            packed=not self.is_sharded,
        )
        self._pass_tokens: int | None = None  # of a forward with its backward pass, once known
        self._window = Window()
        self._step_loss = torch.zeros(())  # of the step's batches so far
        self._whole: _Whole | None = None  # where the step takes several batches
        self.first_pass_seconds = 0.0

    @property
    def is_sharded(self) -> bool:
        """True where no device holds the whole weights."""
        return bool(self.is_fsdp_enabled or self.is_deepspeed_enabled)

    def compute_loss(
        self,
        model: nn.Module,
        inputs: Batch,
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Any:
        """The share of the step's loss that these items bring, so that shares add up over devices."""
        seen = self.views(model, inputs)
        loss_B = counted(self.loss(seen, inputs), inputs["counted"])
        items = len(loss_B) if num_items_in_batch is None else num_items_in_batch
        loss = loss_B.sum() / items
        if self.contrast is not None and seen.features is not None:
            counted_R = inputs["counted"].repeat(2)
            whole, start = self._features_of_step(seen.features, counted_R, inputs)
            own = counted(seen.features.transpose(0, 1), counted_R).transpose(0, 1)
            loss = loss + self.contrast.term(own, whole, start, beside=loss)
        loss = loss * self.accelerator.num_processes  # DDP averages gradients over processes
        return (loss, {"rewards": seen.rewards[0]}) if return_outputs else loss

    def loss(self, seen: Seen, batch: Mapping[str, Any]) -> Tensor:
        """Loss of each item, (B,) in nats: the mean over views, and over tokens where it is at every one."""
        reward_VR = seen.rewards
        if self.objective.listwise:
            reward_R, sizes = reward_VR[0], batch["sizes"].tolist()
            rewards = torch.nn.utils.rnn.pad_sequence(reward_R.split(sizes), batch_first=True)
            ranks = torch.nn.utils.rnn.pad_sequence(
                batch["ranks"].split(sizes), batch_first=True, padding_value=torch.nan
            )
            return plackett_luce(rewards, ranks)
        views = len(reward_VR)
        chosen, rejected = reward_VR[:, ::2].flatten(), reward_VR[:, 1::2].flatten()
        columns = self._columns(chosen.detach(), rejected.detach(), batch, views)
        given = {
            key: source(columns) if isinstance(source, Bound) else source
            for key in ("margin", "flip_rate", "cap", "weight")
            if (source := getattr(self.objective, key)) is not None
        }
        loss = self._pairwise(chosen - rejected, given, seen.tokens)
        for name, coefficient in self.objective.auxiliary.items():
            term = AUXILIARY[name]
            share = views if "step_sum" in term.needs else 1  # a step has as many pairs as it has, seen twice
            found = term.function(chosen, rejected, *(columns[need] for need in term.needs))
            loss = loss + coefficient / share * found
        first_view = partial(counted_first, counted_B=batch["counted"])
        each = {name: first_view(value) for name, value in given.items()}
        self._window.add(first_view(chosen - rejected), each)
        return loss.view(views, -1).mean(0)

    def _pairwise(self, gap: Tensor, given: Mapping[str, Tensor | float], tokens: TokenGaps | None) -> Tensor:
        if tokens is None:
            return self.objective.function(gap, **given)
        at_tokens = {
            key: value[tokens.pair] if isinstance(value, Tensor) else value for key, value in given.items()
        }
        return mean_by_pair(self.objective.function(tokens.gap, **at_tokens), tokens)

    def _columns(self, chosen: Tensor, rejected: Tensor, batch: Mapping[str, Any], views: int) -> Batch:
        """What the sources need, of every view: the batch's columns, and what only the trainer knows."""
        known = {"gap": chosen - rejected, "step": torch.tensor(self.state.global_step)}
        known["item"] = batch["item"].repeat(views)
        needs = self.objective.needs
        if not {*OF_STEP}.isdisjoint(needs):
            own = torch.stack([chosen, rejected], 1)
            if self._whole is None:
                reward_S2 = counted_rows(self.accelerator, own, np.tile(batch["counted"], views))
            else:
                reward_S2 = self._whole.reward
            known |= {"step_gap": reward_S2[:, 0] - reward_S2[:, 1], "step_sum": reward_S2.sum(1)}
        return {
            need: known[need] if need in LIVE else batch[f"column_{need}"].repeat(views) for need in needs
        }

    def _prepare_input(self, data: Any) -> Any:
        # DeepSpeed's would cast columns to bf16, which has 8 bits: a log-probability of -350.7 would be -350
        return data.to(self.args.device) if isinstance(data, Tensor) else super()._prepare_input(data)

    def get_batch_samples(
        self, epoch_iterator: Iterator[Any], num_batches: int, device: torch.device
    ) -> tuple[list[Any], Tensor | int | None]:
        """The step's batches; before them what the step needs beforehand: MetaRM's move, or all its gaps."""
        batches, items = super().get_batch_samples(epoch_iterator, num_batches, device)
        if batches and self._pass_tokens is None:
            self._pass_tokens = self._fitting(batches[0])
        if batches and self.meta is not None:
            self.meta.ascend(self, batches, items)
        self._whole = self._first_pass(batches)
        return batches, items

    def training_step(
        self, model: nn.Module, inputs: Batch, num_items_in_batch: Tensor | int | None = None
    ) -> Tensor:
        """A batch's loss and gradient; after the step's last one the weights are where they were."""
        step, items, losses = super().training_step, num_items_in_batch, []
        *others, last = self._parts(inputs)
        for part in others:  # unlike many on each device: those wait for each other once, at the last one
            with self.accelerator.no_sync(model):
                losses.append(step(model, part, items))
        loss = torch.stack([*losses, step(model, last, items)]).sum()
        self._step_loss = self._step_loss + loss.detach()
        if self.accelerator.sync_gradients:
            self._window.note("largest_loss", self._step_loss)
            self._step_loss = torch.zeros(())
            if self.meta is not None:
                self.meta.settle(self)
                self._window.note("largest_meta_gradient", self.meta.seen["meta_gradient"])
        return loss

    def _parts(self, batch: Batch) -> list[Batch]:
        """What a backward pass each is made of, so that memory is a forward's and not the batch's; a sharded
        model, whose devices wait for each other in each, and losses that need the whole step have one."""
        if self.is_sharded or self._needs_step:
            return [batch]
        # On a GPU `fitting_tokens` divided what a pass takes by all its texts' tokens: so they count here
        shares = isinstance(self.packs, Trees) and self.args.device.type == "cpu"
        return parts(batch, self.pass_tokens, shares=shares)

    @property
    def _needs_step(self) -> bool:
        """True where an item's loss depends on the other items."""
        return not {*OF_STEP}.isdisjoint(self.objective.needs) or self.contrast is not None

    def full_gradient(self, batches: Sequence[Batch], items: Tensor | int | None) -> list[Tensor]:
        """Of the loss at the present weights, in full precision, under the dropout that training will draw.

        Of the step's first pairs alone, or of all where an item's loss depends on the others.
        """
        some = batches if self._needs_step else parts(batches[0], FEW_TOKENS)[:1]
        sums, self._whole = self._window.sums.clone(), self._first_pass(batches)
        model = self.accelerator.unwrap_model(self.model_wrapped, keep_fp32_wrapper=False)
        mixed, self.accelerator.native_amp = self.accelerator.native_amp, False
        try:
            with self.same_dropout_after():
                losses = (self.compute_loss(model, each, num_items_in_batch=items) for each in some)
                total = self.gradient_of(losses)
        finally:
            self.accelerator.native_amp = mixed
        self._window.sums = sums  # these pairs will be counted when they are trained on
        return total

    def trainable(self) -> list[nn.Parameter]:
        """The parameters that have a gradient, in one order."""
        return [weight for weight in self.model_wrapped.parameters() if weight.requires_grad]

    def gradient_of(self, values: Iterable[Tensor]) -> list[Tensor]:
        """Of the values' sum, by trainable parameter, averaged over devices; zeros where it depends on none.

        Values are taken one by one, so that no two of their graphs stand in memory at once.
        """
        weights = self.trainable()
        total = [torch.zeros_like(weight) for weight in weights]
        for value in values:
            for own, found in zip(total, torch.autograd.grad(value, weights, allow_unused=True), strict=True):
                if found is not None:
                    own += found
        return [self.accelerator.reduce(own, "mean") for own in total]

    @contextmanager
    def same_dropout_after(self) -> Iterator[None]:
        """A block in which the model trains, and after which random draws are as they were before it."""
        self.model_wrapped.train()
        cuda = [self.args.device] if self.args.device.type == "cuda" else []
        with torch.random.fork_rng(devices=cuda):
            yield

    @torch.no_grad()
    def _first_pass(self, batches: Sequence[Batch]) -> _Whole | None:
        """What the step's loss needs of all its pairs; None where it needs nothing or one batch has all."""
        if len(batches) < 2 or not self._needs_step:
            return None
        started = time.monotonic()
        rewards, features, counts, samples, count = [], [], [], [], 0
        with self.same_dropout_after():
            for batch in batches:
                reward_VR, feature_VRH, _ = self.views(self.model_wrapped, batch)
                rewards.append(reward_VR.reshape(-1, 2))
                features += [] if feature_VRH is None else [feature_VRH.transpose(0, 1)]
                counts.append(np.tile(batch["counted"], len(reward_VR)))
                samples.append(batch["counted"].repeat(2))
                batch["start"] = count  # of its responses among the device's
                count += reward_VR.shape[1]
        whole = partial(counted_rows, self.accelerator)
        reward, sample = whole(torch.cat(rewards), np.concatenate(counts)), np.concatenate(samples)
        found = _Whole(
            reward,
            whole(torch.cat(features), sample) if features else None,
            counted_before(self.accelerator, sample),
        )
        self.first_pass_seconds += time.monotonic() - started
        return found

    def _features_of_step(
        self, feature_VRH: Tensor, counted_R: NDArray[np.bool_], batch: Mapping[str, Any]
    ) -> tuple[Tensor, int]:
        """The features of all the step's responses, (responses, views, H), and where the batch's begin."""
        if self._whole is None or self._whole.features is None:
            own = feature_VRH.detach().transpose(0, 1).contiguous()
            whole = counted_rows(self.accelerator, own, counted_R)
            return whole, counted_before(self.accelerator, counted_R)
        return self._whole.features, self._whole.before + batch["start"]

    def floating_point_ops(self, inputs: dict[str, Any]) -> int:
        """6 a parameter and token: forward 2, backward 4, the rule of thumb of Kaplan et al. 2020."""
        parameters = sum(each.numel() for each in self.model_wrapped.parameters())
        return 6 * parameters * len(inputs["ids"])

    def rewards(self, model: nn.Module, ids: Sequence[Sequence[int]]) -> Tensor:
        """Rewards of texts, (R,) float32, with gradient where that is on."""
        with self.accelerator.autocast():  # around all forwards, so that weights are cast once a step
            return read_texts(model, self.layer, ids, **self._how()).rewards

    def views(self, model: nn.Module, batch: Mapping[str, Any]) -> Seen:
        """What the model says of a batch in one view; with a contrastive term in two."""
        ids = responses(batch)
        with self.accelerator.autocast():
            read = partial(read_texts, model, self.layer, ids, **self._how())
            if self.at_tokens:
                found = read(token_rewards=True)
                starts = batch["starts"].tolist()
                return Seen(found.rewards[None], tokens=token_gaps(found.token_rewards, ids, starts))
            if self.contrast is None:
                return Seen(read().rewards[None])
            one, other = read(features=True), read(features=True)
        both = torch.stack([one.rewards, other.rewards])
        return Seen(both, torch.stack([one.features, other.features]))

    def _fitting(self, batch: Batch) -> int:
        if self.is_sharded:
            return self.pass_tokens
        items, weights = items_of(batch), self.trainable()
        rewards = partial(self.rewards, self.accelerator.unwrap_model(self.model_wrapped))
        # MetaRM holds theta, and two gradients where it measures its change
        reserved = reserved_bytes(weights, self.optimizer, 0 if self.meta is None else 3)
        with self.same_dropout_after():
            return fitting_tokens(rewards, items, weights, reserved, self.args.device, self.pass_tokens)

    @property
    def pass_tokens(self) -> int:
        """Of a forward with its backward pass: as the device's memory has room, once that was looked at."""
        return self._pass_tokens or token_budget(self.args.device)

    def _how(self) -> dict[str, Any]:
        # A sharded model gathers its weights in each forward, in which every device takes part: one forward
        return {
            "pad_token": self.pad_token,
            "device": self.args.device,
            "max_tokens": None if self.is_sharded else self.pass_tokens,
            "packs": self.packs,
        }

    def _get_num_items_in_batch(self, batch_samples: list[Any], device: torch.device) -> Tensor | None:
        if not batch_samples:
            return None
        mark_repeats(self.accelerator, batch_samples[-1])
        items = torch.tensor(sum(int(batch["counted"].sum()) for batch in batch_samples), device=device)
        return self.accelerator.gather(items).sum()  # type: ignore[no-any-return]

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Adds what the pairs since the last log were like, and what the step's further terms saw."""
        if "loss" in logs:
            asked = {"capped": self.objective.cap, "margin": self.objective.margin}
            without = [name for name, source in asked.items() if source is None]
            window = self._window.told(self.accelerator)
            logs |= {name: value for name, value in window.items() if name not in without}
            for term in (self.meta, self.contrast):
                logs |= {name: float(value) for name, value in term.seen.items()} if term else {}
        super().log(logs, start_time)

    @torch.no_grad()
    def score_ids(self, ids: Sequence[Sequence[int]]) -> np.ndarray:
        """Rewards of texts, float64 (N,); every process calls it with the same texts and gets all rewards."""
        model = self.model_wrapped
        training = model.training
        model.eval()
        how = self._how() | {"max_tokens": 2 * token_budget(self.args.device)}
        passes = list(forwards(ids, **how))
        rank, world = self.accelerator.process_index, self.accelerator.num_processes
        own = passes[rank::world]
        # Every process runs as many forwards as the busiest: a sharded model waits for all in each.
        repeated = own + passes[:1] * (-(-len(passes) // world) - len(own))
        scored = []
        for place, forward in enumerate(repeated):
            with self.accelerator.autocast():
                reward = run_forward(model, self.layer, forward).rewards().cpu().numpy()
            if place < len(own):
                scored.append((forward.places, reward))
        model.train(training)
        rewards = np.empty(len(ids))
        for batch, reward in gather_object(scored) if world > 1 else scored:
            rewards[batch] = reward
        return rewards
