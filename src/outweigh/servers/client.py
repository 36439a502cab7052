"""A server that is asked over HTTP, several things at a time, as often as it allows."""

import json
import logging
import math
import os
import threading
import time
from calendar import timegm
from collections import deque
from collections.abc import Callable, Generator, Iterable, Mapping
from concurrent.futures import Future
from email.utils import parsedate_to_datetime
from functools import partial
from itertools import islice
from queue import SimpleQueue
from typing import Any, TypeVar
from urllib.parse import urlsplit

import requests
from requests.adapters import HTTPAdapter
from requests.utils import get_auth_from_url

from outweigh.errors import ConfigError, ServerError, ServerRefusal
from outweigh.servers.config import ServerConfig, masked

logger = logging.getLogger(__name__)

BUSY = (408, 409, 429)  # and from 500 on: answers that may be other ones a moment later
REFUSALS = (400, 413, 422)  # answers that are of this request, and will be the same again
FAILED = 500  # and one that is of this request if the server answers others well meanwhile
HOPELESS = 32  # requests refused one after the other, from the first on, after which no more are made
LONGEST, LONG = 600.0, 30.0  # seconds of a wait for the next try: at most, and from where a line tells of it
SHORTEST = 0.1  # and at least, of a wait that a server names, as it is counted
SHOWN = 200  # characters of a server's answer in a message

Asked = TypeVar("Asked")
Answer = TypeVar("Answer")


def _host(url: str) -> str | None:
    try:
        return urlsplit(url).hostname
    except ValueError:
        return None


class Server:
    """What answers JSON under a URL. Its key stands in the environment variable `key`, where config names no
    other. `advice` ends the message where it answers something else.

    Raises:
        ConfigError: the key holds what no key does, or the URL names no host.
    """

    def __init__(self, url: str, config: ServerConfig, *, key: str, advice: str) -> None:
        self.url = masked(url.rstrip("/"))  # for messages
        if not _host(url):
            raise ConfigError(f"{self.url}: names no host, want a URL as http://localhost:8000/v1.")
        self._address = url.rstrip("/")
        self.config = config
        self.advice = advice
        self.session = requests.Session()
        told = _key(config.key or key)
        if told and get_auth_from_url(url) == ("", ""):  # as auth, or ~/.netrc would take its place
            self.session.auth = partial(_with_key, told)
        adapter = HTTPAdapter(pool_maxsize=config.concurrency)
        self.session.mount("http://", adapter)
        self.session.mount("https://", adapter)
        self._waits_until = 0.0
        self._answered = 0  # requests
        self._lock = threading.Lock()
        self._pace = _Pace(config.requests_per_minute)

    def asked(
        self, method: str, path: str = "", *, stopped: threading.Event | None = None, **how: Any
    ) -> dict[str, Any]:
        """The object that it answers under this path; once `stopped` is set, it is not asked any more.

        Raises:
            ServerRefusal: it refuses what it was sent, or fails at that alone.
            ServerError: it can't be reached, answers with something else than an object, or is given up.
        """
        before = self._answered
        answer = self._tried(method, path, stopped or threading.Event(), **how)
        if answer.is_redirect:  # which would turn a POST into a GET
            raise ServerError(f"{self.url}: has moved to {masked(answer.headers['Location'])}. Name that.")
        if not answer.ok:
            said = f"{self.url}: answers {answer.status_code}, {' '.join(answer.text.split())[:SHOWN]!r}."
            fails_here = answer.status_code == FAILED and self._answered > before
            if answer.status_code in REFUSALS or fails_here:
                raise ServerRefusal(said)
            raise ServerError(said + (" Is the key right?" if answer.status_code in (401, 403) else ""))
        with self._lock:
            self._answered += 1
        try:
            found = json.loads(answer.content)  # answer.json() reads as some other JSON library may
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
        try:
            listed = self.asked("GET", path).get("data") or []
        except ServerRefusal as refusal:  # of no text
            raise ServerError(str(refusal)) from None
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
        failed = threading.Event()

        def answer(each: Asked) -> Answer:
            if failed.is_set():  # of one that stands before this, and ends the caller
                raise ServerError(f"{self.url}: asking was given up.")
            try:
                return function(each, stopped)
            except BaseException:
                failed.set()
                raise

        pool = _Workers(width)
        waiting: deque[Future[Answer]] = deque()
        try:
            for each in islice(rest, 2 * width):
                waiting.append(pool.submit(answer, each))
            while waiting:
                yield waiting.popleft().result()
                for each in islice(rest, 1):
                    waiting.append(pool.submit(answer, each))
        finally:
            stopped.set()
            pool.close()

    def _tried(self, method: str, path: str, stopped: threading.Event, **how: Any) -> requests.Response:
        """The server's answer, asked for again while it is busy or can't be reached: after a wait that
        doubles, or the one that it names, in which nothing else is asked and which is no try while all that
        it named are LONGEST seconds or less."""
        tries, named_seconds = 0, 0.0
        while not self._pace.wait(stopped):
            last, named = tries >= self.config.retries, None
            try:
                answer = self.session.request(
                    method,
                    self._address + path,
                    timeout=self.config.timeout,
                    allow_redirects=False,
                    **how,
                )
                if answer.status_code not in BUSY and answer.status_code < 500:
                    return answer
                named = _wait_named(answer.headers.get("Retry-After", ""))
                named_seconds += math.inf if named is None else max(named, SHORTEST)
                if self.config.retries and named is not None and named_seconds <= LONGEST:
                    self._pace.hold(self._told(named))
                    continue
                if last:
                    return answer
            except requests.RequestException as error:
                if last:
                    reason = masked(getattr(error.args[0], "reason", error) if error.args else error)
                    raise ServerError(
                        f"{self.url}: can't be asked ({reason[:SHOWN]}). Is it running?"
                    ) from None
            if stopped.wait(self._told(min(2.0**tries if named is None else named, LONGEST))):
                break
            tries += 1
        raise ServerError(f"{self.url}: asking was given up.")

    def _told(self, seconds: float) -> float:
        """The wait, of which a line tells where it is long: one for all that wait at a time."""
        with self._lock:
            now = time.monotonic()
            if seconds > LONG and now >= self._waits_until:
                self._waits_until = now + seconds
                logger.warning("%s: is busy, and asked again in %.0f s.", self.url, seconds)
        return seconds


def _key(variable: str) -> str:
    """The key in an environment variable, or nothing. It is never shown."""
    key = os.environ.get(variable, "").strip()
    if not (key.isascii() and key.isprintable()):
        raise ConfigError(
            f"{variable}: holds a character that no key has, want printable ASCII. Set it to the key alone."
        )
    return key


def _with_key(key: str, request: requests.PreparedRequest) -> requests.PreparedRequest:
    request.headers["Authorization"] = f"Bearer {key}"
    return request


def _wait_named(said: str) -> float | None:
    """Seconds that a Retry-After names, by a number or a date; None where it can't be read."""
    try:
        seconds = float(said)
    except ValueError:
        try:
            seconds = timegm(parsedate_to_datetime(said).utctimetuple()) - time.time()
        except (TypeError, ValueError):
            return None
    return max(0.0, seconds) if math.isfinite(seconds) else None


class _Workers:
    """Threads for which, unlike ThreadPoolExecutor's, a process does not wait when it ends: a request that is
    under way may take minutes."""

    def __init__(self, count: int) -> None:
        self._asked: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._threads = [threading.Thread(target=self._work, daemon=True) for _ in range(count)]
        for each in self._threads:
            each.start()

    def submit(self, function: Callable[[Asked], Answer], asked: Asked) -> Future[Answer]:
        """The answer to be."""
        future: Future[Answer] = Future()

        def work() -> None:
            try:
                future.set_result(function(asked))
            except BaseException as error:
                future.set_exception(error)

        self._asked.put(work)
        return future

    def close(self) -> None:
        """Nothing; the threads end after what was submitted."""
        for _ in self._threads:
            self._asked.put(None)

    def _work(self) -> None:
        while (work := self._asked.get()) is not None:
            work()


class _Pace:
    """Begins of requests, kept apart."""

    def __init__(self, per_minute: float | None) -> None:
        self.apart = 60.0 / per_minute if per_minute else 0.0
        self.next = 0.0
        self.lock = threading.Lock()

    def hold(self, seconds: float) -> None:
        """Nothing; for so long no request begins."""
        with self.lock:
            self.next = max(self.next, time.monotonic() + seconds)

    def wait(self, stopped: threading.Event) -> bool:
        """Returns when the next request may begin; true at once where it has been stopped."""
        with self.lock:
            now = time.monotonic()
            begins = max(now, self.next)
            self.next = begins + self.apart
        return stopped.wait(begins - now)
