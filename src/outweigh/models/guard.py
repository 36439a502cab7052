"""A saved reward model, reloaded in a fresh process, must give the rewards it gave in training."""

import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np

from outweigh.data.config import TokenConfig
from outweigh.data.records import Message, Text
from outweigh.errors import ModelError
from outweigh.models.policy import Policy
from outweigh.models.reward import RewardModel, Scorer

TOLERANCE = 1e-3
"""Relative (absolute under 1): float32 sums taken in another order differ by some 1e-6, merged adapters by
1e-5; a lost head, a wrong pad token or a doubled BOS by more than 1e-1."""


def check_reload(
    folder: Path,
    texts: Sequence[tuple[Text, Text]],
    expected: np.ndarray,
    *,
    policy: TokenConfig | None = None,
    trust_remote_code: bool = False,
) -> float:
    """Largest deviation of the rewards of a fresh process from `expected`, (N,), computed in float32.

    Each text is scored in one padded batch and alone, on the CPU, where the trained model takes no room. Of a
    policy, which is told how texts were cut, the log-probabilities are compared.

    Raises:
        ModelError: they deviate by more than TOLERANCE, or the model can't be loaded.
    """
    how = {"policy": policy and asdict(policy), "trust_remote_code": trust_remote_code}
    told = json.dumps({"texts": texts, "expected": expected.tolist(), **how})
    found = subprocess.run(
        [sys.executable, "-m", "outweigh.models.guard", str(folder)],
        input=told,
        capture_output=True,
        text=True,
        check=False,
    )
    if found.returncode != 0:
        raise ModelError(
            f"{folder}: the saved model can't be used in a fresh process. {found.stderr[-2000:]}"
        )
    deviation = json.loads(found.stdout.splitlines()[-1])
    worst = max(deviation.values())
    if not worst <= TOLERANCE:
        raise ModelError(
            f"{folder}: a fresh process gives other rewards, off by {deviation['together']:.2g} in a batch "
            f"and {deviation['alone']:.2g} alone, want at most {TOLERANCE}. Don't use this model; report it."
        )
    return float(worst)


def _deviation(reward: np.ndarray, expected: np.ndarray) -> float:
    return float(np.max(np.abs(reward - expected) / np.maximum(1, np.abs(expected))))


def main(folder: str) -> None:
    """Prints, as JSON, how far the folder's rewards are from those told on standard input."""
    told = json.load(sys.stdin)
    texts = [tuple(tuple(Message(*message) for message in text) for text in pair) for pair in told["texts"]]
    expected = np.array(told["expected"])
    how = {"device": "cpu", "precision": "fp32", "trust_remote_code": told["trust_remote_code"]}
    model: Scorer = (
        Policy.load(folder, TokenConfig(**told["policy"]), **how)
        if told["policy"]
        else RewardModel.load(folder, **how)
    )
    together = model.score_texts(texts)  # type: ignore[arg-type]
    alone = np.concatenate([model.score_texts([text]) for text in texts])  # type: ignore[list-item]
    print(json.dumps({"together": _deviation(together, expected), "alone": _deviation(alone, expected)}))


if __name__ == "__main__":
    main(sys.argv[1])
