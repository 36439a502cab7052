"""The domain's nouns: a message, a text, a pair, a ranking, candidates, and what reading them counted."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, NamedTuple

ROLES = ("system", "user", "assistant", "tool", "text")


class Message(NamedTuple):
    """One turn. Role `text` is a string taken verbatim, without a chat template."""

    role: str
    content: str


Text = tuple[Message, ...]


def plain(text: Text) -> str:
    """The text as a person reads it; only more than one turn shows its roles."""
    if len(text) == 1:
        return text[0].content
    return "\n\n".join(f"{role.capitalize()}: {content}" for role, content in text)


@dataclass(frozen=True, slots=True)
class Pair:
    """One prompt, and two responses of which the label prefers the first.

    `prompt` is empty where the data has none. `columns` holds the optional columns that the row had
    (margin, votes_chosen, source, ...), by their canonical names.
    """

    prompt: Text
    chosen: Text
    rejected: Text
    row: int  # 0-based row of the data; several pairs share it where one row ranks K responses
    origin: str  # "file:line", so that any later complaint can name it
    columns: Mapping[str, Any] = field(default_factory=dict)


class Ranking(NamedTuple):
    """One prompt and K responses in an order of preference; a pair is a ranking of two."""

    prompt: Text
    responses: tuple[Text, ...]
    ranks: tuple[float, ...]  # lower is better, equal is a tie
    row: int
    origin: str


class Candidates(NamedTuple):
    """One prompt and K responses to choose from; `gold` scores them (higher is better) if known."""

    prompt: Text
    responses: tuple[Text, ...]
    gold: tuple[float, ...] | None
    row: int
    origin: str


@dataclass(slots=True)
class ReadCounts:
    """What reading the data kept and dropped; rows = those with a pair + those without + bad_rows."""

    rows: int = 0
    """Rows read, bad ones included."""
    pairs: int = 0
    """Pairs kept."""
    tied: int = 0
    """Pairs dropped because two of K responses have one rank."""
    empty: int = 0
    """Pairs dropped because a response has no text."""
    identical: int = 0
    """Pairs dropped because both responses are the same text."""
    bad_rows: int = 0
    """Rows skipped because they are not what they should be."""

    def to_dict(self) -> dict[str, int]:
        """The counts by name."""
        return asdict(self)
