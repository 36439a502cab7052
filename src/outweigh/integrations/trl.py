"""For TRL's GRPO and RLOO: `reward_funcs=[RewardFunction("run/model")]`, or on its command line
`--reward_funcs outweigh.integrations.trl.reward_func` with the model named in OUTWEIGH_REWARD_MODEL.
"""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from outweigh.align.shaping import ShapingConfig, shaped
from outweigh.integrations.model import reward_model
from outweigh.models.reward import Messages, Scorer, texts_of

logger = logging.getLogger(__name__)

RAW = ShapingConfig(clip=None)
REFERENCE = "reference_reward"
"""Column of the data with the reward of a reference response to each prompt."""


class RewardFunction:
    """Rewards of completions, as TRL asks for them; unlike its own scoring it needs no shared tokenizer.

    `level` is taken from every reward first, as a clip is about nothing else: a reward model's own level
    means nothing. With `shaping` against a reference, the data has a column `reference_reward`.

    Raises:
        ConfigError, ModelError: no model is named, or it can't be loaded.
    """

    def __init__(
        self, model: str | Path | Scorer | None = None, shaping: ShapingConfig = RAW, *, level: float = 0.0
    ) -> None:
        self.model = (
            model if isinstance(model, Scorer) else reward_model(None if model is None else str(model))
        )
        self.shaping = shaping
        self.level = level
        self.__name__ = "outweigh"  # under which TRL logs it

    def __call__(
        self, prompts: Sequence[Messages], completions: Sequence[Messages], **columns: Any
    ) -> list[float | None]:
        """One reward a completion, in nats of log-odds unless shaped; None where a server refuses it."""
        texts = texts_of(prompts, [_written(each) for each in completions])
        reward_MN, refused = self.model.score_taken(texts, skip=True)
        if refused:
            first = refused[min(refused)]
            logger.warning(
                "%d of %d completions have no reward. The first: %s", len(refused), len(texts), first
            )
        kept = np.setdiff1d(np.arange(len(texts)), sorted(refused))
        reward = self.model.combined(reward_MN)[kept] - self.level
        reference = None
        if REFERENCE in columns:
            reference = np.asarray(columns[REFERENCE], dtype=np.float64)[kept] - self.level
        found: list[float | None] = [None] * len(texts)
        for place, value in zip(kept.tolist(), shaped(reward, self.shaping, reference).tolist(), strict=True):
            found[place] = value
        return found


def _written(completion: Messages) -> Messages:
    """The completion, in which a message without content, where nothing was said, has an empty one."""
    if isinstance(completion, str):
        return completion
    return [{**each, "content": each.get("content") or ""} for each in completion]


def reward_func(
    prompts: Sequence[Messages], completions: Sequence[Messages], **columns: Any
) -> list[float | None]:
    """One raw reward a completion, by the model that OUTWEIGH_REWARD_MODEL names."""
    return RewardFunction()(prompts, completions, **columns)
