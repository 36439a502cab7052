"""For verl: `reward.custom_reward_function.path=FILE name=compute_score`, FILE as this prints it:

    python -c "import outweigh.integrations.verl as v; print(v.__file__)"

The model is named in OUTWEIGH_REWARD_MODEL, or as `reward_kwargs` `model`. `rows` are the data that verl and
this function want.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from outweigh.data.records import Text
from outweigh.errors import DataError
from outweigh.integrations.model import reward_model


def rows(prompts: Sequence[Text], *, split: str) -> list[dict[str, Any]]:
    """A row a prompt, for a Parquet file: the columns that verl wants, and the prompt once more in
    `extra_info`, where `compute_score` finds it."""
    found = []
    for index, prompt in enumerate(prompts):
        messages = [message._asdict() for message in prompt]
        found.append(
            {
                "data_source": "outweigh",
                "prompt": messages,
                "ability": "alignment",
                "reward_model": {"style": "model", "ground_truth": ""},
                "extra_info": {"split": split, "index": index, "prompt": messages},
            }
        )
    return found


def compute_score(
    data_source: Any,
    solution_str: str,
    ground_truth: Any,
    extra_info: Mapping[str, Any] | None = None,
    *,
    model: str | None = None,
    prompt_key: str = "prompt",
    **unused: Any,
) -> dict[str, float]:
    """The reward of one solution. verl hands on no prompt: it has to stand in `extra_info`, as a string or as
    messages.

    Raises:
        DataError: it does not.
        ConfigError, ModelError: no model is named, or it can't be loaded.
    """
    if not extra_info or prompt_key not in extra_info:
        raise DataError(
            f"verl: extra_info has no {prompt_key!r}, got {', '.join(extra_info or {}) or 'nothing'}. "
            "Add the "
            "prompt to the data's column extra_info, or name its key as prompt_key in reward_kwargs."
        )
    prompt = extra_info[prompt_key]
    prompt = prompt.tolist() if isinstance(prompt, np.ndarray) else prompt  # as parquet's lists are read
    return {"score": float(reward_model(model).score([prompt], [solution_str])[0])}
