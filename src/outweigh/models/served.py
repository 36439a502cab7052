"""A reward model behind a server: texts go out over HTTP, rewards come back."""

import json
import logging
import threading
from collections.abc import Mapping, Sequence
from contextlib import closing
from itertools import chain
from typing import Any

import numpy as np

from outweigh.data.records import Text
from outweigh.data.rendering import Renderer
from outweigh.errors import ConfigError, ServerError, ServerRefusal
from outweigh.models.loading import load_tokenizer
from outweigh.models.reward import Scorer, Taken
from outweigh.servers.client import HOPELESS, SHOWN, Server
from outweigh.servers.config import CLASSIFY, GET_REWARD, REWARD_KEY, ServerConfig, masked, serves_rewards

logger = logging.getLogger(__name__)

TEXTS = 16  # a request


class ServedReward(Scorer):
    """The reward model that answers at a URL, which ends in /get_reward (OpenRLHF) or /classify (vLLM).

        POST /get_reward  {"query": [text], "prompts": [prompt]}  ->  {"rewards": [reward]}
        POST /classify    {"model", "input": [text], "use_activation": false}
                          ->  {"data": [{"index": 0, "probs": [reward]}]}

    Of OpenRLHF's protocol a text is one string, prompt and response, as the model was trained to read it: in
    `URL#NAME`, NAME is the model or tokenizer (a folder, a Hub name, or bundled) whose chat template writes
    it. Without one it is plain text that names each role; vLLM is sent messages, and renders them itself.
    A key stands in the environment variable OUTWEIGH_REWARD_KEY, or in the one that the configuration names.

    Raises:
        ConfigError: the URL ends otherwise, or the key holds what no key does.
        ModelError: there is no such tokenizer.
    """

    def __init__(self, name: str, config: ServerConfig | None = None) -> None:
        if not serves_rewards(name):
            raise ConfigError(
                f"reward model {masked(name)}: want a URL that ends in {GET_REWARD} (OpenRLHF's protocol) or "
                f"{CLASSIFY} (vLLM's)."
            )
        url, _, template = name.partition("#")
        url = url.rstrip("/")
        self.path = GET_REWARD if url.endswith(GET_REWARD) else CLASSIFY
        self.server = Server(
            url.removesuffix(self.path),
            config or ServerConfig(),
            key=REWARD_KEY,
            advice="Is a reward model served there?",
        )
        self.renderer = Renderer(load_tokenizer(template)) if template else None
        self.model = ""
        if self.renderer is None and self.path == GET_REWARD:
            logger.warning(
                "%s is sent plain text, 'User: ...', 'Assistant: ...'. Where it was trained with a chat "
                "template, name its tokenizer: %s#NAME.",
                masked(url),
                masked(url),
            )

    def score_texts(self, texts: Sequence[tuple[Text, Text]]) -> np.ndarray:
        """Reward of each (prompt, response), float64 (N,).

        Raises:
            ServerRefusal: the server refuses a text.
            ServerError: it can't be reached, or answers with something else than a finite reward of each.
        """
        reward_MN, refused = self.score_taken(texts, skip=False)
        for refusal in refused.values():
            raise refusal
        return np.asarray(reward_MN[0])

    def score_taken(self, texts: Sequence[tuple[Text, Text]], *, skip: bool) -> Taken:
        """The same, but for texts that the server refuses; without `skip` up to the first.

        Raises:
            ServerError: as above, or it refuses the first HOPELESS texts, every one.
        """
        if self.path == CLASSIFY and not self.model:
            self.model = self.server.first_model("/v1/models")
        alone = self.path == CLASSIFY and self.renderer is None  # messages are one text a request
        width = 1 if alone else TEXTS
        parts = [texts[start : start + width] for start in range(0, len(texts), width)]
        reward_N, refused, place = np.full(len(texts), np.nan), dict[int, ServerRefusal](), 0
        with closing(self.server.map(self._each, parts)) as found:
            for said in chain.from_iterable(found):
                if isinstance(said, ServerRefusal):
                    refused[place] = said
                else:
                    reward_N[place] = said
                place += 1
                if refused and not skip:
                    break
                if len(refused) == place == HOPELESS:
                    raise ServerError(f"{said} It took none of the first {HOPELESS} texts.")
        return Taken(reward_N[None], refused)

    def _each(
        self, texts: Sequence[tuple[Text, Text]], stopped: threading.Event
    ) -> list[float | ServerRefusal]:
        """The rewards of texts that are asked for together; where that is refused, of each by itself, or why
        there is none."""
        try:
            return [*self._asked(texts, stopped)]
        except ServerRefusal as refusal:
            if len(texts) == 1:
                return [ServerRefusal(f"{refusal} Is the text too long for it?")]
        return [said for text in texts for said in self._each([text], stopped)]

    def _asked(self, texts: Sequence[tuple[Text, Text]], stopped: threading.Event) -> list[float]:
        answer = self.server.asked("POST", self.path, stopped=stopped, json=self._body(texts))
        rewards = _rewards(answer) if self.path == GET_REWARD else _labels(answer)
        numbers = [each for each in rewards if isinstance(each, int | float) and not isinstance(each, bool)]
        if len(numbers) != len(rewards) or len(rewards) != len(texts) or not np.isfinite(numbers).all():
            raise ServerError(
                f"{self.server.url}{self.path}: got {json.dumps(answer)[:SHOWN]}, want {len(texts)} finite "
                f"rewards for {len(texts)} texts. {self.server.advice}"
            )
        return [float(each) for each in numbers]

    def _body(self, texts: Sequence[tuple[Text, Text]]) -> dict[str, Any]:
        """What is sent of the texts."""
        written = [self._written(*each) for each in texts]
        if self.path == GET_REWARD:
            return {"query": [text for _, text in written], "prompts": [prompt for prompt, _ in written]}
        told = {"model": self.model, "use_activation": False}  # else a sigmoid of the reward would come back
        if self.renderer is not None:  # its templates write special tokens
            return told | {"input": [text for _, text in written], "add_special_tokens": False}
        ((prompt, response),) = texts
        if _verbatim(response):
            return told | {"input": [text for _, text in written]}
        return told | {"messages": [message._asdict() for message in (*prompt, *response)]}

    def _written(self, prompt: Text, response: Text) -> tuple[str, str]:
        """The prompt, and the whole text."""
        if self.renderer is not None:
            whole = self.renderer(prompt, response)
            return whole.text[: whole.prompt_characters], whole.text
        if _verbatim(response):
            before = "".join(message.content for message in prompt)
            return before, before + "".join(message.content for message in response)
        asked, said = (
            "\n\n".join(f"{role.capitalize()}: {content}" for role, content in each)
            for each in (prompt, (*prompt, *response))
        )
        return asked, said


def _verbatim(text: Text) -> bool:
    return any(message.role == "text" for message in text)


def _rewards(answer: Mapping[str, Any]) -> list[Any]:
    """The rewards of OpenRLHF's answer, of one text also as a number alone; none where it is not one."""
    found = answer.get("rewards")
    return found if isinstance(found, list) else [] if found is None else [found]


def _labels(answer: Mapping[str, Any]) -> list[Any]:
    """The one label of each text of vLLM's answer, in the order of the texts; none where it is not one."""
    data = answer.get("data")
    try:
        placed = {each["index"]: each["probs"] for each in data or []}
        return [value for place in range(len(placed)) for (value,) in [placed[place]]]
    except (TypeError, KeyError, ValueError):
        return []
