"""The trainer that knows pairs, with a policy whose reward is beta log(policy / reference)."""

from collections.abc import Mapping, Sequence
from typing import Any

import datasets
import numpy as np
import torch
from accelerate.utils import gather_object
from torch import Tensor, nn

from outweigh.models.batches import on_device
from outweigh.models.policy import log_probabilities, policy_tokens
from outweigh.training.collate import Collator, responses
from outweigh.training.trainer import PairTrainer, Seen

EVALUATED = 16  # pairs a batch


class PolicyTrainer(PairTrainer):
    """Trains a causal model on pairs; every source, the step's gaps and the alarms are the reward models'.

    `reference` has the log-probabilities of the chosen and the rejected responses, (B, 2) in nats.
    """

    def __init__(
        self,
        *,
        beta: float,
        average: bool,
        vocabulary: int,
        reference: np.ndarray,
        columns: Mapping[str, np.ndarray],
        **kwargs: Any,
    ) -> None:
        super().__init__(columns=columns, **kwargs)
        self.beta = beta
        self.average = average
        self.vocabulary = vocabulary
        both = {"reference_chosen": reference[:, 0], "reference_rejected": reference[:, 1]}
        stored = {name: columns[name] for name in self.objective.needs if name in columns}
        self.data_collator = Collator({**stored, **both})

    def views(self, model: nn.Module, batch: Mapping[str, Any]) -> Seen:
        """Implicit rewards of a batch's responses, in nats."""
        ids = responses(batch)
        with self.accelerator.autocast():
            policy_R = log_probabilities(model, ids, batch["starts"].tolist(), **self._how())
        reference = (batch["column_reference_chosen"], batch["column_reference_rejected"])
        ratio_R = policy_R - torch.stack(reference, 1).flatten()
        if self.average:
            said_R = np.maximum(batch["lengths"] - batch["starts"], 1)
            ratio_R = ratio_R / on_device(said_R, ratio_R.device)
        return Seen(self.beta * ratio_R[None])

    def rewards(self, model: nn.Module, ids: Sequence[Sequence[int]]) -> Tensor:
        """Of whole texts, beta log policy alone, (R,) in nats."""
        with self.accelerator.autocast():
            return self.beta * log_probabilities(model, ids, [0] * len(ids), **self._how())

    @property
    def pass_tokens(self) -> int:
        """As of reward models, where the vocabulary's logits fit, too."""
        return self._pass_tokens or policy_tokens(self.args.device, self.vocabulary)

    @torch.no_grad()
    def gaps(self, dataset: datasets.Dataset) -> np.ndarray:
        """Gap of each pair, float64 (B,); every process calls it with the same pairs and gets all gaps."""
        model, training = self.model_wrapped, self.model_wrapped.training
        model.eval()
        rank, world = self.accelerator.process_index, self.accelerator.num_processes
        starts = list(range(0, len(dataset), EVALUATED))
        own = starts[rank::world]
        repeated = own + starts[:1] * (-(-len(starts) // world) - len(own))  # sharded: as many forwards each
        found = []
        for place, start in enumerate(repeated):
            rows = dataset.select(range(start, min(start + EVALUATED, len(dataset))))
            batch = self._prepare_inputs(self.data_collator(list(rows)))
            reward_R = self.views(model, batch).rewards[0].double().cpu().numpy()
            if place < len(own):
                found.append((start, reward_R[::2] - reward_R[1::2]))
        model.train(training)
        everywhere = gather_object(found) if world > 1 else found
        return np.concatenate([gap for _, gap in sorted(everywhere, key=lambda each: each[0])])
