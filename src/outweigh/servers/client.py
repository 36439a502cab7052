"""A server that is asked over HTTP, several things at a time, as often as it allows."""

import os
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
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
        self._stopped = threading.Event()
        self._pace = _Pace(config.requests_per_minute)

    def asked(self, method: str, path: str = "", **how: Any) -> dict[str, Any]:
        """The object that it answers under this path.

        Raises:
            ServerRefusal: it refuses what it was sent.
            ServerError: it can't be reached, or answers with something else than an object.
        """
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

    def map(self, function: Callable[[Asked], Answer], asked: Iterable[Asked]) -> list[Answer]:
        """The function of each, in order, as many at a time as the server is to be asked."""
        self._stopped.clear()
        pool = ThreadPoolExecutor(self.config.concurrency)
        try:
            return list(pool.map(function, asked))
        except BaseException:  # what waits to be tried again is not to hold up an end
            self.stop()
            raise
        finally:
            pool.shutdown(wait=False, cancel_futures=True)

    def stop(self) -> None:
        """Nothing; what waits to ask again gives up."""
        self._stopped.set()

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
