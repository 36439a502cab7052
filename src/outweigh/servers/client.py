"""A server that is asked over HTTP, several things at a time, as often as it allows."""

import os
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import Any, TypeVar

import requests
from requests.adapters import HTTPAdapter

from outweigh.errors import ServerError, ServerRefusal
from outweigh.servers.config import ServerConfig

BUSY = (408, 409, 429, 500, 502, 503, 504)  # answers that may be other ones a moment later
REFUSALS = (400, 413, 422)  # answers that are of this request, and will be the same again
SHOWN = 200  # characters of a server's answer in a message

Asked = TypeVar("Asked")
Answer = TypeVar("Answer")


class Server:
    """What answers JSON under a URL. `advice` ends the message where it answers something else."""

    def __init__(self, url: str, config: ServerConfig, *, advice: str) -> None:
        self.url = url.rstrip("/")
        self.config = config
        self.advice = advice
        self.session = requests.Session()
        if key := os.environ.get(config.key):
            self.session.headers["Authorization"] = f"Bearer {key}"
        adapter = HTTPAdapter(pool_maxsize=config.concurrency)
        self.session.mount("http://", adapter)
        self.session.mount("https://", adapter)
        self._pace = _Pace(config.requests_per_minute)

    def asked(
        self, method: str, path: str = "", *, stopped: threading.Event | None = None, **how: Any
    ) -> dict[str, Any]:
        """The object that it answers under this path; once `stopped` is set, it is not asked any more.

        Raises:
            ServerRefusal: it refuses what it was sent.
            ServerError: it can't be reached, answers with something else than an object, or is given up.
        """
        answer = self._tried(method, path, stopped or threading.Event(), **how)
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
            raise ServerError(f"{self.url}: got {answer.text[:SHOWN]!r}, want a JSON object. {self.advice}")
        return found

    def first_model(self, path: str) -> str:
        """The model that is named, or else the first that an OpenAI-compatible server lists under the path.

        Raises:
            ServerError: it lists none.
        """
        if self.config.model:
            return self.config.model
        listed = self.asked("GET", path).get("data") or []
        names: list[str] = [
            each["id"] for each in listed if isinstance(each, Mapping) and isinstance(each.get("id"), str)
        ]
        if not names:
            raise ServerError(f"{self.url}: lists no model. Name one with --server.model.")
        return names[0]

    def map(
        self, function: Callable[[Asked, threading.Event], Answer], asked: Iterable[Asked]
    ) -> Generator[Answer, None, None]:
        """The function of each, in order, as many at a time as the server is to be asked. It hands on the
        event that it gets: once the caller has an error, or closes this, nothing more is asked."""
        rest, width, stopped = iter(asked), self.config.concurrency, threading.Event()
        pool = ThreadPoolExecutor(width)
        waiting: deque[Future[Answer]] = deque()
        try:
            for each in islice(rest, 2 * width):
                waiting.append(pool.submit(function, each, stopped))
            while waiting:
                yield waiting.popleft().result()
                for each in islice(rest, 1):
                    waiting.append(pool.submit(function, each, stopped))
        finally:
            stopped.set()
            pool.shutdown(wait=False, cancel_futures=True)

    def _tried(self, method: str, path: str, stopped: threading.Event, **how: Any) -> requests.Response:
        """The server's answer, asked for again while it is busy or can't be reached."""
        for attempt in range(self.config.retries + 1):
            if self._pace.wait(stopped):
                break
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
            if stopped.wait(float(told) if told.isdigit() else 2.0**attempt):
                break
        raise ServerError(f"{self.url}: asking was given up.")


class _Pace:
    """Begins of requests, kept apart."""

    def __init__(self, per_minute: float | None) -> None:
        self.apart = 60.0 / per_minute if per_minute else 0.0
        self.next = 0.0
        self.lock = threading.Lock()

    def wait(self, stopped: threading.Event) -> bool:
        """Returns when the next request may begin; true at once where it has been stopped."""
        with self.lock:
            now = time.monotonic()
            begins = max(now, self.next)
            self.next = begins + self.apart
        return stopped.wait(begins - now)
