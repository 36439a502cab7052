"""How texts are rendered and cut. Imports nothing heavy: --help reads it."""

import math
from dataclasses import dataclass
from typing import Literal

from outweigh.limits import check_limits

LEAST_TOKENS = 8
"""With fewer a text says nothing."""


@dataclass(frozen=True, kw_only=True)
class TokenConfig:
    """How a prompt and a response become token ids."""

    max_tokens: int = 512
    """Tokens of prompt and response together; longer texts are treated as `on_long` says."""
    on_long: Literal["truncate", "drop", "error"] = "truncate"
    """truncate: from the left of the prompt first, then from the right of the response."""
    template: Literal["auto", "none"] = "auto"
    """auto: the tokenizer's chat template (a plain one where it has none); none: texts joined as they are."""

    def __post_init__(self) -> None:
        check_limits(self, "", {"max_tokens": (LEAST_TOKENS, math.inf)})
