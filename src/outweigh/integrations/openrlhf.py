"""For OpenRLHF: `--reward.remote_url FILE`, FILE as this prints it:

    python -c "import outweigh.integrations.openrlhf as o; print(o.__file__)"

The model is named in OUTWEIGH_REWARD_MODEL. OpenRLHF hands on texts that the policy's template has rendered,
so the reward model must have been trained with the same one.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from outweigh.data.records import Message
from outweigh.integrations.model import reward_model


def reward_func(
    queries: Sequence[str], prompts: Sequence[str] | None = None, labels: Sequence[Any] | None = None
) -> dict[str, Tensor | dict[str, Tensor]]:
    """Rewards (N,) of whole texts, prompt and response together, special tokens kept; float32.

    A text is read as if our renderer had closed it, wherever the policy ended: on its end token, or cut.

    Raises:
        ConfigError, ModelError: no model is named, or it can't be loaded.
    """
    found = reward_model().score_texts([((), (Message("text", query),)) for query in queries])
    rewards = torch.tensor(found, dtype=torch.float32)
    return {"rewards": rewards, "scores": rewards, "extra_logs": {"reward": rewards}}
