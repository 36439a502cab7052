"""Rows on their way to a file: what is done stands after a kill, and the run goes on from there."""

import json
import logging
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from io import FileIO
from pathlib import Path
from typing import Any

from outweigh.data.files import raw_rows
from outweigh.data.writing import check_lines_name, json_line, replaced_whole
from outweigh.errors import ConfigError, DataError, what_to_do
from outweigh.steps.lock import lock

logger = logging.getLogger(__name__)


class Unfinished:
    """Of a run's rows: how many of the data's are done, how many were written, and what is wrong with those
    left out."""

    def __init__(self, rows: FileIO, record: FileIO) -> None:
        self._rows, self._record = rows, record
        self.read, self.written, self.bad = 0, 0, list[str]()

    def add(self, lines: Sequence[bytes], read: int, bad: Sequence[str] = ()) -> None:
        """Nothing; `read` more rows of the data have become `lines`, and `bad` ones. After a kill all of them
        stand, or none.

        Raises:
            DataError: they can't be written.
        """
        try:
            _write(self._rows, b"".join(lines))
            self._count(read, len(lines), bad)
            done = {"read": self.read, "written": self.written, "bytes": self._rows.tell(), "bad": bad}
            _write(self._record, json_line(done))
        except OSError as error:
            raise DataError(
                f"{self._rows.name}: can't be written, got {error.strerror or error}. What was finished is "
                f"kept, and --resume goes on. {what_to_do(error)}"
            ) from None

    def _count(self, read: int, written: int, bad: Sequence[str]) -> None:
        self.read, self.written = self.read + read, self.written + written
        self.bad += bad

    def take_up(self) -> None:
        """Nothing; goes to where the last whole entry of the record ends, and cuts off what is behind."""
        self._record.seek(0)
        identity, *entries = self._record.readall().splitlines(keepends=True)
        size, ends = self._rows.seek(0, 2), (len(identity), 0)
        for line in entries:
            told = _entry(line)
            if told is None or told["bytes"] > size:
                break
            self._count(told["read"] - self.read, told["written"] - self.written, told["bad"])
            ends = (ends[0] + len(line), told["bytes"])
        for file, end in zip((self._record, self._rows), ends, strict=True):
            file.truncate(end)
            file.seek(end)


def _entry(line: bytes) -> dict[str, Any] | None:
    """What a line of the record says; None where it is cut or damaged."""
    try:
        told = json.loads(line) if line.endswith(b"}\n") else None
    except ValueError:
        return None
    return told if isinstance(told, dict) and {"read", "written", "bytes", "bad"} <= told.keys() else None


def _write(file: FileIO, data: bytes) -> None:
    """Nothing; writes all of it, unbuffered: what a full disk leaves in a buffer fails again at its close."""
    rest = memoryview(data)
    while rest:
        rest = rest[file.write(rest) :]


def places(path: Path) -> tuple[Path, Path]:
    """Where rows stand until all are there, and where it stands of which run they are, and how far it is."""
    return path.with_name(f"{path.name}.unfinished"), path.with_name(f"{path.name}.identity")


def check_free(path: Path, resume: bool) -> None:
    """Nothing, if no file would be written over, and its name is one of JSON lines.

    Raises:
        ConfigError: one is there, and it is not asked to be taken as it is; or its name is another.
    """
    check_lines_name(path)
    if path.exists() and not resume:
        raise ConfigError(f"{path}: is there already. Name another file, or remove it.")


def finished_rows(path: Path, identity: str) -> int | None:
    """The rows of a finished file of the same run, to be left as it is; None where there is none.

    Raises:
        ConfigError: there is a finished file of another run, or of none that is known.
    """
    unfinished, record = places(path)
    if not path.exists() or unfinished.exists():
        return None
    if not record.exists() or record.read_text(encoding="utf-8").partition("\n")[0] != identity:
        raise ConfigError(
            f"{path}: is finished, and {record.name} does not tell that it is of this data, this model and "
            "these settings. Give its own, name another file, or remove it."
        )
    return sum(1 for _ in raw_rows(path))


@contextmanager
def unfinished_rows(path: Path, identity: str, *, resume: bool) -> Iterator[Unfinished]:
    """Rows that become `path` when the block ends without an error; `identity`, a line, is kept beside it.

    Raises:
        ConfigError: rows of another run, or of this one without `resume`, stand there, or another process
            writes them.
    """
    unfinished, record = places(path)
    if unfinished.exists() and not resume:
        raise ConfigError(f"{unfinished}: was left by an unfinished run. Go on with --resume, or remove it.")
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileIO(unfinished, "a+") as rows, FileIO(record, "a+") as told:
        lock(rows.fileno(), unfinished)
        found = Unfinished(rows, told)
        told.seek(0)
        is_same = told.readall().startswith(f"{identity}\n".encode())
        if rows.seek(0, 2) == 0 and not is_same:
            told.truncate(0)  # new, or killed while it was begun
            _write(told, f"{identity}\n".encode())
        elif not is_same:
            raise ConfigError(
                f"{unfinished}: is of other data, another model or other settings. Give those again, or "
                "remove it."
            )
        found.take_up()
        try:
            yield found
        except BaseException:
            if found.written:
                logger.warning("%s: %d rows are kept; --resume goes on there.", unfinished, found.written)
            else:  # nothing to go on from
                unfinished.unlink()
                record.unlink()
            raise
    if path.name.endswith(".gz"):
        with unfinished.open("rb") as plain, replaced_whole(path) as packed:
            shutil.copyfileobj(plain, packed)
        unfinished.unlink()
    else:
        unfinished.replace(path)
    record.write_text(f"{identity}\n", encoding="utf-8")
