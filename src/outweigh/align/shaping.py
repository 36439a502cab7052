"""A reward -> what a policy is trained to raise."""

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np

from outweigh.errors import ConfigError
from outweigh.limits import ABOVE_0, check_limits
from outweigh.metrics.arrays import FloatArray


@dataclass(frozen=True, kw_only=True)
class ShapingConfig:
    """What is done to rewards before a policy is trained on them, in this order."""

    against: Literal["nothing", "reference"] = "nothing"
    """reference: sigma(reward - reward of a reference response), the chance to be preferred to it."""
    whiten: bool = False
    """Take the batch's mean away and divide by its standard deviation."""
    clip: float | None = 5.0
    """Rewards further than this from the first policy's mean are cut to it; None: none is."""

    def __post_init__(self) -> None:
        check_limits(self, "", {"clip": (ABOVE_0, math.inf)})


def shaped(reward: FloatArray, config: ShapingConfig, reference: FloatArray | None = None) -> FloatArray:
    """Rewards (N,) as the policy is to see them; `reference` are those of a reference response each, (N,).

    Raises:
        ConfigError: they are to be set against a reference that is not given.
    Source: sigma(reward - reference): Fu et al. 2025, arXiv:2502.18770 (PAR). The clip of 5 is that of PCRM's
        runs, arXiv:2404.00978.
    """
    if config.against == "reference":
        if reference is None:
            raise ConfigError("shaping: against a reference, but no reference reward is given.")
        reward = 0.5 * (1.0 + np.tanh(0.5 * (reward - reference)))  # sigma, without its overflow
    if config.whiten and len(reward):
        reward = (reward - reward.mean()) / max(float(reward.std()), 1e-8)
    return reward if config.clip is None else reward.clip(-config.clip, config.clip)
