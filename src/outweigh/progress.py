"""A progress bar with the time left, on standard error, where a person watches."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

QUIET = False
"""Set by the command line's --quiet."""


class Advance(Protocol):
    """Tells the bar that `count` more are done, and what to note beside it."""

    def __call__(self, count: float = 1, note: str = "") -> None: ...


@contextmanager
def progress(label: str, total: float) -> Iterator[Advance]:
    """A function to call with each amount done; it draws nothing where standard error is no terminal."""
    if QUIET or not sys.stderr.isatty():
        yield lambda count=1, note="": None
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
        task = bar.add_task(label, total=total, note="")

        def advance(count: float = 1, note: str = "") -> None:
            bar.update(task, advance=count, note=note)

        yield advance
