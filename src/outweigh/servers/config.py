"""How a server is asked. Imports nothing heavy: --help reads it."""

import math
import re
from dataclasses import dataclass

from outweigh.limits import ABOVE_0, check_limits

_CREDENTIALS = re.compile(r"(?<=://)[^/?#\s]*@")


def is_server(name: object) -> bool:
    """True if the name is the URL of a server, and not of a model to load."""
    return str(name).startswith(("http://", "https://"))


GET_REWARD, CLASSIFY = "/get_reward", "/classify"
"""Where OpenRLHF's reward server answers, and vLLM's."""


def serves_rewards(name: object) -> bool:
    """True if the name is the URL of a reward model behind a server, and not of one that chats."""
    address = str(name).partition("#")[0].rstrip("/")
    return is_server(name) and address.endswith((GET_REWARD, CLASSIFY))


def masked(name: object) -> str:
    """The name, or any text, without the users and passwords of its URLs: for what is written or said."""
    return _CREDENTIALS.sub("***@", str(name))


CHAT_KEY, REWARD_KEY = "OPENAI_API_KEY", "OUTWEIGH_REWARD_KEY"
"""Environment variables with the key of a server that chats, and of one that gives rewards: a key of the one
is not for the other."""


@dataclass(frozen=True, kw_only=True)
class ServerConfig:
    """How a server is asked."""

    model: str = ""
    """Name of the model there; empty: the first one that the server lists."""
    key: str = ""
    """Environment variable with the key; empty: OPENAI_API_KEY, or OUTWEIGH_REWARD_KEY of a served reward
    model. None is sent where it is not set."""
    concurrency: int = 8
    """Requests under way at once."""
    requests_per_minute: float | None = None
    """At most so many requests are begun in a minute."""
    retries: int = 5
    """Further tries where the server is busy, fails or can't be reached, after waits of 1 s, 2 s, 4 s. A wait
    that the server names is no try, while they are ten minutes or less in all; with 0 there is none."""
    timeout: float = 300.0
    """Seconds to wait for an answer."""
    logprobs: bool = True
    """Ask for log-probabilities. Some servers refuse to give them."""

    def __post_init__(self) -> None:
        above = dict.fromkeys(("timeout", "requests_per_minute"), (ABOVE_0, math.inf))
        check_limits(self, "server ", {"concurrency": (1, math.inf), "retries": (0, math.inf)} | above)
