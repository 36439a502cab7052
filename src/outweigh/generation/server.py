"""An OpenAI-compatible server: asked over HTTP, several prompts at a time, as often as it allows."""

import os
import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import Any

import requests
from requests.adapters import HTTPAdapter

from outweigh.data.records import Text
from outweigh.errors import ServerError, ServerRefusal
from outweigh.generation.config import SamplingConfig, ServerConfig
from outweigh.generation.samples import Refused, Sample, Sampler

BUSY = (408, 409, 429, 500, 502, 503, 504)  # answers that may be other ones a moment later
REFUSALS = (400, 413, 422)  # answers that are of this prompt, and will be the same again
SHOWN = 200  # characters of a server's answer in a message


class ChatServer:
    """Chat completions of one server: `http://host:port/v1` and whatever is under it.

    Raises:
        ServerError: it lists no model, though none is named.
    """

    def __init__(self, url: str, config: ServerConfig) -> None:
        self.url = url.rstrip("/")
        self.config = config
        self.session = requests.Session()
        if key := os.environ.get(config.key):
            self.session.headers["Authorization"] = f"Bearer {key}"
        adapter = HTTPAdapter(pool_maxsize=config.concurrency)
        self.session.mount("http://", adapter)
        self.session.mount("https://", adapter)
        self._stopped = threading.Event()
        self._pace = _Pace(config.requests_per_minute)
        self.model = config.model or self._first_model()

    def complete(self, messages: Sequence[Mapping[str, str]], **options: Any) -> dict[str, Any]:
        """The server's answer to a chat, as it stands.

        Raises:
            ServerError: it can't be reached, refuses, or answers with something else than a completion.
        """
        body = {"model": self.model, "messages": list(messages), **options}
        found = self._asked("POST", "/chat/completions", json=body)
        if not isinstance(found.get("choices"), list) or not found["choices"]:
            raise ServerError(f"{self.url}: got {str(found)[:SHOWN]}, want a completion with choices.")
        return found

    def _first_model(self) -> str:
        listed = self._asked("GET", "/models").get("data") or []
        names: list[str] = [
            each["id"] for each in listed if isinstance(each, Mapping) and isinstance(each.get("id"), str)
        ]
        if not names:
            raise ServerError(f"{self.url}: lists no model. Name one with --server.model.")
        return names[0]

    def stop(self) -> None:
        """Nothing; what waits to ask again gives up."""
        self._stopped.set()

    def _asked(self, method: str, path: str, **how: Any) -> dict[str, Any]:
        answer = self._tried(method, path, **how)
        if not answer.ok:
            said = f"{self.url}: answers {answer.status_code}, {' '.join(answer.text.split())[:SHOWN]!r}."
            if answer.status_code in REFUSALS:
                raise ServerRefusal(said)
            raise ServerError(said + (" Is the key right?" if answer.status_code in (401, 403) else ""))
        try:
            found = answer.json()
        except ValueError:
            found = None
        if not isinstance(found, dict):
            raise ServerError(f"{self.url}: got {answer.text[:SHOWN]!r}, want a JSON object. Is it its /v1?")
        return found

    def _tried(self, method: str, path: str, **how: Any) -> requests.Response:
        """The server's answer, asked for again while it is busy or can't be reached."""
        for attempt in range(self.config.retries + 1):
            self._pace.wait()
            last = attempt == self.config.retries
            told = ""
            try:
                answer = self.session.request(method, self.url + path, timeout=self.config.timeout, **how)
                if answer.status_code not in BUSY or last:
                    return answer
                told = answer.headers.get("Retry-After", "")
            except requests.RequestException as error:
                if last:
                    reason = str(getattr(error.args[0], "reason", error) if error.args else error)
                    raise ServerError(
                        f"{self.url}: can't be asked ({reason[:SHOWN]}). Is it running?"
                    ) from None
            if self._stopped.wait(float(told) if told.isdigit() else 2.0**attempt):
                break
        raise ServerError(f"{self.url}: asking was given up.")


class ServedPolicy(Sampler):
    """A policy behind a server."""

    def __init__(self, url: str, config: SamplingConfig, server: ServerConfig) -> None:
        self.config = config
        self.server = ChatServer(url, server)

    def refusal(self, prompt: Text) -> str:
        """Why this prompt can't be answered; empty where it can. Which is too long, only the server knows."""
        return "" if prompt else "prompt is empty, want a message to answer. Drop the row."

    def samples(self, prompts: Iterable[Text], first: int) -> Iterator[Sequence[Sample] | Refused]:
        """The n responses to each prompt, in order, while others are under way."""
        asked, width = iter(enumerate(prompts, first)), self.server.config.concurrency
        pool = ThreadPoolExecutor(width)
        waiting: deque[Future[list[Sample] | Refused]] = deque()
        try:
            for place, prompt in islice(asked, 2 * width):
                waiting.append(pool.submit(self._answers, prompt, place))
            while waiting:
                yield waiting.popleft().result()
                for place, prompt in islice(asked, 1):
                    waiting.append(pool.submit(self._answers, prompt, place))
        except BaseException:  # what waits to be tried again is not to hold up an end
            self.server.stop()
            raise
        finally:
            pool.shutdown(wait=False, cancel_futures=True)

    def _answers(self, prompt: Text, place: int) -> list[Sample] | Refused:
        """The n responses; a server that gives fewer at once than it is asked for is asked again."""
        messages = [{"role": "user" if role == "text" else role, "content": said} for role, said in prompt]
        found: list[Sample] = []
        while len(found) < self.config.n:
            options: dict[str, Any] = {"logprobs": True} if self.server.config.logprobs else {}
            try:
                answer = self.server.complete(
                    messages,
                    n=self.config.n - len(found),
                    temperature=self.config.temperature,
                    top_p=self.config.top_p,
                    max_tokens=self.config.max_new_tokens,
                    seed=(self.config.seed * 1_000_003 + place * 1009 + len(found)) % 2**31,
                    **options,
                )
                found += [self._sample(choice, answer) for choice in answer["choices"]]
            except ServerRefusal as refusal:
                return Refused(str(refusal))
        return found[: self.config.n]

    def _sample(self, choice: Any, answer: Mapping[str, Any]) -> Sample:
        try:
            text, reason = choice["message"]["content"], choice["finish_reason"]
            said = (choice.get("logprobs") or {}).get("content")
            logprob = None if said is None else float(sum(token["logprob"] for token in said))
            used = answer["usage"]["completion_tokens"] if len(answer["choices"]) == 1 else None
        except (TypeError, KeyError, AttributeError):
            raise ServerError(
                f"{self.server.url}: got the choice {str(choice)[:SHOWN]}, want message.content and "
                "finish_reason."
            ) from None
        if not isinstance(text, str):
            raise ServerRefusal(
                f"{self.server.url}: got the content {text!r}, want a string. Was it cut while it thought?"
            )
        tokens = len(said) if said is not None else used
        return Sample(text, tokens, reason != "length", logprob)


class _Pace:
    """Begins of requests, kept apart."""

    def __init__(self, per_minute: float | None) -> None:
        self.apart = 60.0 / per_minute if per_minute else 0.0
        self.next = 0.0
        self.lock = threading.Lock()

    def wait(self) -> None:
        """Nothing; returns when the next request may begin."""
        with self.lock:
            now = time.monotonic()
            begins = max(now, self.next)
            self.next = begins + self.apart
        time.sleep(begins - now)
