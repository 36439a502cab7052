"""One run at a time in a folder."""

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from functools import wraps
from pathlib import Path
from typing import ParamSpec, TypeVar

from outweigh.errors import ConfigError, what_to_do

P = ParamSpec("P")
R = TypeVar("R")

_held: set[Path] = set()  # by this process: a run may have others of its own in its folder


def alone(step: Callable[P, R]) -> Callable[P, R]:
    """The step, which no other process of this machine does in the same folder `out` at the same time.

    Raises:
        ConfigError: one does, or there can't be such a folder. Besides what the step raises.
    """

    @wraps(step)
    def done(*args: P.args, **kwargs: P.kwargs) -> R:
        out = kwargs.get("out")
        with nullcontext() if out is None else _sole(Path(str(out))):
            return step(*args, **kwargs)

    return done


@contextmanager
def _sole(folder: Path) -> Iterator[None]:
    """A block in which other processes' blocks of the folder are refused. Of several processes that train
    one model the first speaks for all. A kill frees the folder."""
    whole = folder.absolute()
    if folder.is_file():
        raise ConfigError(f"{folder}: is a file. Name a folder.")
    if whole in _held or os.environ.get("RANK", "0") != "0":
        yield
        return
    is_new = not folder.exists()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError as error:
        raise ConfigError(f"{folder}: can't be used, got {error.strerror}. {what_to_do(error)}") from None
    try:
        lock(descriptor, folder)
        _held.add(whole)
        yield
    finally:
        _held.discard(whole)
        os.close(descriptor)
        if is_new:
            with suppress(OSError):  # something stands there
                folder.rmdir()


def lock(descriptor: int, path: Path) -> None:
    """Nothing; until it is closed, or its process ends, no other locks what is open there.

    Raises:
        ConfigError: another process has it locked.
    """
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise ConfigError(f"{path}: another run is writing there. Wait, or name another.") from None
    except OSError:
        pass  # a file system that knows no locks
