"""How responses are drawn. Imports nothing heavy: --help reads it."""

import math
from dataclasses import dataclass
from typing import Literal

from outweigh.errors import ConfigError


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
        for name, least in (("n", 1), ("max_new_tokens", 1), ("batch_responses", 1), ("seed", 0)):
            value = getattr(self, name)
            if value is not None and value < least:
                raise ConfigError(f"{name}: got {value}, want {least} or more.")
        if not 0 <= self.temperature < math.inf or not 0 < self.top_p <= 1:
            raise ConfigError(
                f"got temperature {self.temperature} and top_p {self.top_p}, want 0 or more and a "
                "probability above 0."
            )
        if self.temperature == 0 and self.n > 1:
            raise ConfigError(f"n: got {self.n} with temperature 0, at which all are alike. Want n 1.")
