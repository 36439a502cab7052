"""How responses are drawn. Imports nothing heavy: --help reads it."""

import math
from dataclasses import dataclass
from typing import Literal

from outweigh.errors import ConfigError
from outweigh.limits import ABOVE_0, MOST_SEED, check_limits


@dataclass(frozen=True, kw_only=True)
class SamplingConfig:
    """How responses are drawn."""

    n: int = 1
    """Responses to each prompt."""
    temperature: float = 1.0
    """Logits are divided by it; 0 takes the likeliest token each time."""
    top_p: float = 1.0
    """Only the likeliest tokens that together have this probability are drawn from."""
    max_new_tokens: int = 256
    """A response is cut after so many tokens."""
    seed: int = 0
    """Decides what is drawn: on one machine, with the same batches, the same responses."""
    batch_responses: int | None = None
    """Responses that a policy in memory draws at once; None: 256 on a GPU, else 32."""
    precision: Literal["auto", "bf16", "fp32"] = "auto"
    """Of a policy in memory. auto: bf16 where the device multiplies in it."""

    def __post_init__(self) -> None:
        ones = dict.fromkeys(("n", "max_new_tokens", "batch_responses"), (1, math.inf))
        drawn = {"temperature": (0, math.inf), "top_p": (ABOVE_0, 1), "seed": (0, MOST_SEED)}
        check_limits(self, "", ones | drawn)
        if self.temperature == 0 and self.n > 1:
            raise ConfigError(f"n: got {self.n} with temperature 0, at which all are alike. Want n 1.")
