"""Who says which of two responses is better: gold scores, a reward model, or a model behind a server."""

import hashlib
import json
import logging
import re
import threading
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from outweigh.data.cache import cache_folder
from outweigh.data.records import Text, plain
from outweigh.data.writing import replaced_whole
from outweigh.errors import DataError, ServerRefusal
from outweigh.generation.server import ChatServer
from outweigh.models.reward import Scorer
from outweigh.servers.client import HOPELESS, SHOWN
from outweigh.servers.config import ServerConfig

logger = logging.getLogger(__name__)

A, TIE, B = 1.0, 0.5, 0.0
"""A verdict: what the first response gets of the win."""

SYSTEM = (
    "You compare two answers to one request and say which of them serves the user better. Weigh whether an "
    "answer is right, to the point, harmless and clear. Length and style by themselves are no merit, nor is "
    "the order in which the answers stand. Give your reasons in a few sentences. End with a line that holds "
    "nothing but [[A]] if answer A is better, [[B]] if answer B is better, or [[C]] if neither is."
)
VERDICT = re.compile(r"\[\[([ABC])\]\]")
TRIES = 3
"""Times that a judge is asked whose answer holds no verdict."""
MAX_TOKENS = 512
"""Of an answer, reasons and all; a judge that thinks at length needs more."""


class Match(NamedTuple):
    """Two responses to one prompt, with gold scores where they are known."""

    prompt: Text
    a: Text
    b: Text
    gold: tuple[float, float] | None = None


@dataclass
class Tally:
    """What asking a judge took, and how it behaved."""

    requests: int = 0
    """Answers that the server gave."""
    cached: int = 0
    """Answers found on disk."""
    malformed: int = 0
    """Answers without a verdict."""
    refused: int = 0
    """Questions that the server would not answer, such as too long ones."""
    prompt_tokens: int = 0
    """Of the server's answers, as it counts them; cached ones cost nothing."""
    completion_tokens: int = 0
    """The same of what it said."""
    first: int = 0
    """Verdicts for the answer that stood first."""
    second: int = 0
    """Verdicts for the other one."""
    lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def to_dict(self) -> dict[str, int]:
        """For results.json."""
        return {name: value for name, value in vars(self).items() if name != "lock"}


class Judge(ABC):
    """Whoever says which of two responses is better."""

    tally: Tally | None = None

    @abstractmethod
    def verdicts(self, matches: Sequence[Match]) -> list[float | None]:
        """1 for the first response, 0 for the second, a half for neither; None where there is no verdict."""


class GoldJudge(Judge):
    """By the gold scores that the data came with."""

    def verdicts(self, matches: Sequence[Match]) -> list[float | None]:
        """The higher gold wins; equal ones tie.

        Raises:
            DataError: a match has no gold.
        """
        if any(match.gold is None for match in matches):
            raise DataError("judge gold: rows have no gold score of the kept response. Name another judge.")
        return [_of(match.gold[0] - match.gold[1]) for match in matches if match.gold is not None]


class ModelJudge(Judge):
    """By a reward model."""

    def __init__(self, model: Scorer) -> None:
        self.model = model

    def verdicts(self, matches: Sequence[Match]) -> list[float | None]:
        """The higher reward wins; equal ones tie; None where the model's server refuses one of the two.

        Raises:
            ServerRefusal: it refuses one of every match.
        """
        texts = [(match.prompt, side) for match in matches for side in (match.a, match.b)]
        reward_MN, refusals = self.model.score_taken(texts, skip=True)
        reward = self.model.combined(reward_MN).reshape(-1, 2)
        refused = {place // 2: refusal for place, refusal in refusals.items()}
        if refused:
            first = refused[min(refused)]
            if len(refused) == len(matches):
                raise first
            logger.warning("%d of %d have no verdict. The first: %s", len(refused), len(matches), first)
        gaps = reward[:, 0] - reward[:, 1]
        return [None if place in refused else _of(float(gap)) for place, gap in enumerate(gaps)]


class ServerJudge(Judge):
    """By a model behind an OpenAI-compatible server, asked in both orders; where these differ it is a tie.

    Each answer is kept in the cache, by server, model and what was asked. An answer without a verdict is
    asked for again, twice at most; a question that the server refuses has none.

    Raises:
        ServerError: the server does not answer as it should, refuses the first HOPELESS questions or one of
            every match.
    """

    def __init__(self, url: str, config: ServerConfig, *, max_tokens: int = MAX_TOKENS) -> None:
        self.server = ChatServer(url, config)
        self.max_tokens = max_tokens
        self.tally: Tally = Tally()
        self.cache = cache_folder() / "judge"
        self._told = False

    def verdicts(self, matches: Sequence[Match]) -> list[float | None]:
        """Both orders agree on one, or it is a tie; None where an order gave no verdict."""
        orders = [(match, turned) for match in matches for turned in (False, True)]
        found: list[float | ServerRefusal | None] = []
        for said in self.server.map(self._verdict, orders):
            found.append(said)
            refused = [each for each in found[:HOPELESS] if isinstance(each, ServerRefusal)]
            if len(found) == len(refused) == HOPELESS:
                raise refused[0]
        pairs = list(zip(found[::2], found[1::2], strict=True))
        refusals = [[said for said in pair if isinstance(said, ServerRefusal)] for pair in pairs]
        if refusals and all(refusals):
            raise refusals[0][0]
        with self.tally.lock:
            self.tally.refused += sum(map(len, refusals))
        return [_agreed(*pair) for pair in pairs]

    def _verdict(self, order: tuple[Match, bool], stopped: threading.Event) -> float | ServerRefusal | None:
        match, turned = order
        first, second = (match.b, match.a) if turned else (match.a, match.b)
        parts = {"Request": match.prompt, "Answer A": first, "Answer B": second}
        asked = "\n\n".join(f"[{name}]\n{plain(text)}" for name, text in parts.items())
        messages = [{"role": "system", "content": SYSTEM}, {"role": "user", "content": asked}]
        for attempt in range(TRIES):
            try:
                said = VERDICT.findall(self._answer(messages, attempt, stopped))
            except ServerRefusal as refusal:
                return refusal
            if said:
                with self.tally.lock:
                    self.tally.first += said[-1] == "A"
                    self.tally.second += said[-1] == "B"
                verdict = {"A": A, "B": B, "C": TIE}[said[-1]]
                return 1.0 - verdict if turned else verdict
            with self.tally.lock:
                self.tally.malformed += 1
        return None

    def _answer(self, messages: list[dict[str, str]], attempt: int, stopped: threading.Event) -> str:
        # The same question at temperature 0 would get the same answer again
        options: dict[str, Any] = {"temperature": 0.0 if attempt == 0 else 1.0, "max_tokens": self.max_tokens}
        options["seed"] = attempt
        identity = json.dumps([self.server.url, self.server.model, messages, options])
        file = self.cache / f"{hashlib.sha256(identity.encode()).hexdigest()[:40]}.json"
        if (kept := _kept(file)) is not None:
            with self.tally.lock:
                self.tally.cached += 1
            return kept
        answer = self.server.complete(messages, stopped, **options)
        choice = answer["choices"][0] if isinstance(answer["choices"][0], dict) else {}
        message = choice.get("message")
        said = message.get("content") if isinstance(message, dict) else None
        with self.tally.lock:
            self.tally.requests += 1
            self.tally.prompt_tokens += _tokens(answer, "prompt_tokens")
            self.tally.completion_tokens += _tokens(answer, "completion_tokens")
        is_cut = choice.get("finish_reason") == "length"  # before its last line
        if not isinstance(said, str) or is_cut or not VERDICT.search(said):
            self._tell(said, is_cut)
            return ""
        with replaced_whole(file) as out:
            out.write(json.dumps({"said": said}).encode())
        return said

    def _tell(self, said: Any, is_cut: bool) -> None:
        """Nothing; shows the first answer without a verdict, or the end of it: one may see why."""
        with self.tally.lock:
            is_first, self._told = not self._told, True
        if is_first:
            how = f"ended at {self.max_tokens} tokens" if is_cut else "ended"
            end = said[-SHOWN:] if isinstance(said, str) else said
            remedy = " Raise --max-tokens." if is_cut else ""
            logger.warning(
                "%s: an answer %s without a verdict, with %r.%s", self.server.url, how, end, remedy
            )


def _kept(file: Path) -> str | None:
    """The answer that lies there; None where none does, or a broken one."""
    try:
        said = json.loads(file.read_text(encoding="utf-8"))["said"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return said if isinstance(said, str) else None


def _tokens(answer: Mapping[str, Any], name: str) -> int:
    """What a server counts of its answer; 0 where it does not say."""
    usage = answer.get("usage")
    count = usage.get(name) if isinstance(usage, Mapping) else None
    return count if isinstance(count, int) else 0


def _agreed(one: float | ServerRefusal | None, other: float | ServerRefusal | None) -> float | None:
    """The verdict of both orders; None where one of them has none."""
    if not isinstance(one, float) or not isinstance(other, float):
        return None
    return one if one == other else TIE


def _of(gap: float) -> float:
    return A if gap > 0 else B if gap < 0 else TIE
