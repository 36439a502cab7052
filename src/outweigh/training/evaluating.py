"""A trainer that is told how good it is by the gaps of held-out pairs."""

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import datasets
import numpy as np

from outweigh.training.checkpoints import WholeCheckpoints

EVALUATED = 2048
"""Items whose tokens and rewards are in memory at once."""


class EvaluatingTrainer(WholeCheckpoints):
    """Evaluates on items of ranked responses, by accuracy and log loss."""

    keeps_best = False
    """Whether the best model so far is kept on disk, whatever the rhythm of the checkpoints."""

    @abstractmethod
    def score_ids(self, ids: Sequence[Sequence[int]]) -> np.ndarray:
        """Rewards of texts, float64 (N,)."""

    def evaluate(
        self,
        eval_dataset: datasets.Dataset | None = None,
        ignore_keys: list[str] | None = None,
        metric_key_prefix: str = "eval",
    ) -> dict[str, float]:
        """Accuracy and log loss over all pairs of the items: each better-ranked response and each worse."""
        dataset = self.eval_dataset if eval_dataset is None else eval_dataset
        gap = self.gaps(dataset)
        metrics = {
            f"{metric_key_prefix}_accuracy": float(np.mean((gap > 0) + (gap == 0) / 2)),
            f"{metric_key_prefix}_log_loss": float(np.mean(np.logaddexp(0, -gap))),
            f"{metric_key_prefix}_pairs": float(len(gap)),
            f"{metric_key_prefix}_gap": float(gap.mean()),
            f"{metric_key_prefix}_gap_std": float(gap.std()),
        }
        self.log(metrics)
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    def gaps(self, dataset: datasets.Dataset) -> np.ndarray:
        """Gap of each pair of the items, float64, in nats."""
        gaps = []
        for part in dataset.iter(EVALUATED):
            ids = [response for responses in part["response_ids"] for response in responses]
            rewards = iter(self.score_ids(ids))
            for ranks in part["ranks"]:
                reward = np.array([next(rewards) for _ in ranks])
                rank = np.array(ranks)
                gaps.append((reward[:, None] - reward[None, :])[rank[:, None] < rank[None, :]])
        return np.concatenate(gaps)

    def _determine_best_metric(self, metrics: dict[str, float], trial: Any) -> bool:
        best: bool = super()._determine_best_metric(metrics, trial)
        self.control.should_save |= best and self.keeps_best
        return best
