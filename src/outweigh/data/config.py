"""How texts are rendered and cut. Imports nothing heavy: --help reads it."""

from dataclasses import dataclass
from numbers import Integral
from typing import Literal

from outweigh.errors import ConfigError

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
        if not isinstance(self.max_tokens, Integral) or self.max_tokens < LEAST_TOKENS:
            raise ConfigError(f"max_tokens: got {self.max_tokens}, want at least {LEAST_TOKENS}.")
