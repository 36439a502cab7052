"""The reward model that a trainer's function scores with, loaded once a process."""

import os
import threading

from outweigh.errors import ConfigError
from outweigh.models.ensemble import load_scorer
from outweigh.models.reward import Scorer

VARIABLE = "OUTWEIGH_REWARD_MODEL"


_loaded: dict[str, Scorer] = {}
_lock = threading.Lock()  # verl asks from many threads at once


def reward_model(name: str | None = None) -> Scorer:
    """The model of that name, or of the one that the environment names in OUTWEIGH_REWARD_MODEL.

    Raises:
        ConfigError: neither is given.
        ModelError: it can't be loaded.
    """
    name = name or os.environ.get(VARIABLE)
    if not name:
        raise ConfigError(f"no reward model. Set {VARIABLE} to a folder, a Hub name, a URL, or mean:A,B.")
    with _lock:
        if name not in _loaded:
            _loaded[name] = load_scorer(name)
        return _loaded[name]
