"""A policy behind an OpenAI-compatible server: several prompts at a time."""

import math
import threading
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from outweigh.data.records import Text
from outweigh.errors import ServerError, ServerRefusal
from outweigh.generation.config import SamplingConfig
from outweigh.generation.samples import Drawn, Refused, Sample, Sampler
from outweigh.servers.client import SHOWN, Server
from outweigh.servers.config import CHAT_KEY, ServerConfig

TRIES = 3
"""Refusals of further responses, where some are there, after which the prompt is given up."""


class ChatServer(Server):
    """Chat completions of one server: `http://host:port/v1` and whatever is under it.

    Raises:
        ServerError: it lists no model, though none is named.
    """

    def __init__(self, url: str, config: ServerConfig) -> None:
        super().__init__(url, config, key=CHAT_KEY, advice="Is it its /v1?")
        self.model = self.first_model("/models")

    def complete(
        self, messages: Sequence[Mapping[str, str]], stopped: threading.Event, **options: Any
    ) -> dict[str, Any]:
        """The server's answer to a chat, as it stands; once `stopped` is set, it is not asked any more.

        Raises:
            ServerError: it can't be reached, refuses, or answers with something else than a completion.
        """
        body = {"model": self.model, "messages": list(messages), **options}
        found = self.asked("POST", "/chat/completions", stopped=stopped, json=body)
        if not isinstance(found.get("choices"), list):
            raise ServerError(f"{self.url}: got {str(found)[:SHOWN]}, want a completion with choices.")
        if not found["choices"]:
            raise ServerRefusal(f"{self.url}: gave no answer, {str(found)[:SHOWN]}.")
        return found


class ServedPolicy(Sampler):
    """A policy behind a server."""

    def __init__(self, url: str, config: SamplingConfig, server: ServerConfig) -> None:
        self.config = config
        self.server = ChatServer(url, server)

    def refusal(self, prompt: Text) -> str:
        """Why this prompt can't be answered; empty where it can. Which is too long, only the server knows."""
        return "" if prompt else "prompt is empty, want a message to answer. Drop the row."

    def samples(self, prompts: Iterable[Text], first: int) -> Drawn:
        """The n responses to each prompt, in order, while others are under way."""
        return self.server.map(self._answers, enumerate(prompts, first))

    def _answers(self, asked: tuple[int, Text], stopped: threading.Event) -> list[Sample] | Refused:
        """The n responses; a server that gives fewer at once than it is asked for, or some without content,
        is asked again."""
        place, prompt = asked
        refused = 0
        messages = [{"role": "user" if role == "text" else role, "content": said} for role, said in prompt]
        found: list[Sample] = []
        while len(found) < self.config.n:
            options: dict[str, Any] = {"logprobs": True} if self.server.config.logprobs else {}
            try:
                answer = self.server.complete(
                    messages,
                    stopped,
                    n=self.config.n - len(found),
                    temperature=self.config.temperature,
                    top_p=self.config.top_p,
                    max_tokens=self.config.max_new_tokens,
                    seed=(self.config.seed * 1_000_003 + place * 1009 + len(found) + refused) % 2**31,
                    **options,
                )
                found += self._said(answer)
            except ServerRefusal as refusal:
                refused += 1
                if not found or refused == TRIES:  # what was given is paid for
                    return Refused(str(refusal))
        return found[: self.config.n]

    def _said(self, answer: Mapping[str, Any]) -> list[Sample]:
        """The responses of an answer that have content.

        Raises:
            ServerRefusal: none has.
            ServerError: a choice is none.
        """
        samples = [self._sample(choice, answer) for choice in answer["choices"]]
        if found := [each for each in samples if each is not None]:
            return found
        raise ServerRefusal(
            f"{self.server.url}: got {str(answer['choices'][0])[:SHOWN]}, want a string as its content. Was "
            "it cut while it thought?"
        )

    def _sample(self, choice: Any, answer: Mapping[str, Any]) -> Sample | None:
        try:
            text, reason = choice["message"]["content"], choice["finish_reason"]
            said = (choice.get("logprobs") or {}).get("content")
            usage = answer.get("usage") if len(answer["choices"]) == 1 else None
        except (TypeError, KeyError, AttributeError):
            raise ServerError(
                f"{self.server.url}: got the choice {str(choice)[:SHOWN]}, want message.content and "
                "finish_reason."
            ) from None
        if not isinstance(text, str):
            return None
        used = usage.get("completion_tokens") if isinstance(usage, Mapping) else None
        tokens = len(said) if isinstance(said, list) else used if isinstance(used, int) else None
        return Sample(text, tokens, reason != "length", _logprob(said))


def _logprob(said: Any) -> float | None:
    """The sum over the tokens that a server tells of; None where it does not tell it of each, as a number."""
    try:
        total = float(sum(token["logprob"] for token in said))
    except (TypeError, KeyError, ValueError):
        return None
    return total if math.isfinite(total) else None
