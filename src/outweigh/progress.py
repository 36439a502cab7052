"""Progress with the time left, on standard error: a bar where a person watches, else a line now and then."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

QUIET = False
"""Set by the command line's --quiet."""
EVERY = 30.0
"""Seconds between two lines, at least, where there is no terminal: a log is to stay readable."""


class Advance(Protocol):
    """Tells the bar that `count` more are done, and what to note beside it."""

    def __call__(self, count: float = 1, note: str = "") -> None: ...


@contextmanager
def progress(label: str, total: float | None, done: float = 0) -> Iterator[Advance]:
    """A function to call with each amount done; `done` stood before, and a total may be unknown."""
    if QUIET:
        yield lambda count=1, note="": None
        return
    if not sys.stderr.isatty():
        yield _Lines(label, total, done)
        return
    from rich.console import Console  # late: 0.1 s that `outweigh --help` does not have
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    note_column = TextColumn("{task.fields[note]}")
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        note_column,
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(label, total=total, completed=int(done), note="")

        def advance(count: float = 1, note: str = "") -> None:
            bar.update(task, advance=count, note=note)

        yield advance


class _Lines:
    """Lines of what is done and, where all is known, the time left at the same pace; none in short work."""

    def __init__(self, label: str, total: float | None, done: float) -> None:
        self.label, self.total, self.before, self.done = label, total, done, done
        self.started = self.told = time.monotonic()

    def __call__(self, count: float = 1, note: str = "") -> None:
        now, self.done = time.monotonic(), self.done + count
        if now - self.told < EVERY or self.done == self.total:
            return
        self.told, words = now, f"{self.label}: {self.done:,.0f}"
        if self.total is not None and self.done > self.before:
            left = (now - self.started) * (self.total - self.done) / (self.done - self.before)
            words += f" of {self.total:,.0f}, about {left / 60:,.0f} min left"
        print(f"{words}, {note}" if note else words, file=sys.stderr, flush=True)
