"""What sampling takes and gives, whoever samples."""

from abc import ABC, abstractmethod
from collections.abc import Generator, Iterable, Sequence
from typing import NamedTuple

from outweigh.data.records import Text


class Sample(NamedTuple):
    """One response."""

    text: str
    tokens: int | None  # None where unknown
    finished: bool  # False where it was cut at max_new_tokens
    logprob: float | None  # nats under the policy at temperature 1, its end token counted; None where unknown


class Refused(NamedTuple):
    """A prompt that a server will not answer, and why."""

    reason: str


Drawn = Generator[Sequence[Sample] | Refused, None, None]
"""What was drawn for each prompt, in order; closed early, nothing more is drawn."""


class Sampler(ABC):
    """Whatever answers prompts."""

    batch_prompts = 1
    """Prompts drawn together: what is drawn depends on who else is in the batch."""

    @abstractmethod
    def refusal(self, prompt: Text) -> str:
        """Why this prompt can't be answered; empty where it can."""

    @abstractmethod
    def samples(self, prompts: Iterable[Text], first: int) -> Drawn:
        """The n responses to each prompt, in order; `first` is the first one's place in the whole job."""
