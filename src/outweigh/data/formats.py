"""Raw rows out of one file, one at a time: JSON lines, a JSON array, CSV or Parquet, each also gzipped."""

import codecs
import csv
import gzip
import json
import shutil
import sys
import tempfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from outweigh.data.fields import shown, typed_cells
from outweigh.errors import DataError

_CHUNK = 1 << 20  # bytes of a JSON array read at once
_PARQUET_ROWS = 1000  # rows turned into Python objects at once


class Place(NamedTuple):
    """Where in its file a row stands, its values, and what is wrong if it could not be read at all."""

    at: str  # "17" for a line, "row 17" where the format has no lines
    values: dict[str, Any] | None
    problem: str = ""


def read_file(path: Path) -> Iterator[Place]:
    """The rows of a file, in order and in constant memory.

    Raises:
        DataError: the file can't be opened, is cut short, or is not what its name says.
    """
    suffix = path.name.lower().removesuffix(".gz").rpartition(".")[2]
    try:
        with _open(path) as stream:
            yield from _READERS[suffix](path, stream)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise DataError(
            f"{path}: gzip data is damaged, got {error}. Copy or download the file again."
        ) from None
    except pa.ArrowException as error:
        what = str(error).splitlines()[0]
        raise DataError(f"{path}: can't be read as Parquet, got {what}. Write the file again.") from None
    except OSError as error:
        raise DataError(f"{path}: can't be read, got {error.strerror or error}. Check the path.") from None


def _open(path: Path) -> IO[bytes]:
    return gzip.open(path, "rb") if path.name.lower().endswith(".gz") else path.open("rb")  # type: ignore[return-value]


def _json(path: Path, stream: IO[bytes]) -> Iterator[Place]:
    """Rows of JSON lines, or of one JSON array: the first character that is not white space tells."""
    lines = enumerate(stream, start=1)
    for number, line in lines:
        line = line.removeprefix(codecs.BOM_UTF8) if number == 1 else line
        if not line.strip():
            continue
        if line.lstrip().startswith(b"["):
            stream.seek(0)
            yield from _json_array(path, stream)
            return
        yield _json_line(number, line)
        break
    for number, line in lines:
        if not line.isspace():
            yield _json_line(number, line)


def _json_line(number: int, line: bytes) -> Place:
    try:
        values = json.loads(line.decode())
    except UnicodeDecodeError as error:
        return Place(str(number), None, _not_utf8(line[error.start], error.start))
    except (ValueError, RecursionError) as error:
        what = (
            f"{_told(error)} at character {error.colno}"
            if isinstance(error, json.JSONDecodeError)
            else str(error)
        )
        repair = "Write one JSON object a line, or one array of them."
        return Place(str(number), None, f"invalid JSON: {what}, want an object. {repair}")
    return _object(str(number), values)


def _told(error: json.JSONDecodeError) -> str:
    """What is wrong, without the at that some of json's messages end in."""
    return error.msg.removesuffix(" at")


def _object(at: str, values: object) -> Place:
    if isinstance(values, dict):
        return Place(at, values)
    return Place(at, None, f"got {shown(values)}, want a JSON object with named columns. Correct the row.")


def _not_utf8(byte: int, at: int) -> str:
    return f"not UTF-8: got byte 0x{byte:02x} at byte {at + 1}, want UTF-8. Convert it: iconv -t utf-8."


def _json_array(path: Path, stream: IO[bytes]) -> Iterator[Place]:
    """Rows of a JSON array, parsed one by one so that the array is never in memory as a whole."""
    decoder, feed = json.JSONDecoder(), _Text(path, stream)
    feed.skip_space()
    feed.at += 1  # the bracket that _json saw
    number = 0
    while (opening := feed.skip_space()) != "]":
        if number:
            if opening != ",":
                raise feed.wrong(number, f"got {opening!r}" if opening else "the file ends", "want , or ]")
            feed.at += 1
            feed.skip_space()
        number += 1
        while True:
            try:
                values, end = decoder.raw_decode(feed.text, feed.at)
            except json.JSONDecodeError as error:
                what = f"{_told(error)} at {feed.place(error.pos)}"
                if feed.more():
                    continue
                raise feed.wrong(number, f"invalid JSON: {what}", "want an object") from None
            except (ValueError, RecursionError) as error:
                raise feed.wrong(number, f"invalid JSON: {error}", "want an object") from None
            if end < len(feed.text) or not feed.more():  # a number at the end may go on: 12|34
                break
        feed.at = end
        yield _object(f"row {number}", values)
    feed.at += 1
    if further := feed.skip_space():
        raise feed.wrong(number, f"got {further!r} after the array", "want nothing more")


class _Text:
    """The decoded text of a stream from where reading stands, grown on demand."""

    def __init__(self, path: Path, stream: IO[bytes]) -> None:
        self.path, self.stream = path, stream
        self.decoder = codecs.getincrementaldecoder("utf-8-sig")()
        self.text, self.at, self.bytes = "", 0, 0
        self.lines, self.column = 0, 0  # before the text that is held

    def more(self) -> bool:
        """Reads on, as much as is held and at least a chunk; False at the end of the stream."""
        # Doubling keeps the reparsing of one huge row linear in its length.
        chunk = self.stream.read(max(_CHUNK, len(self.text) - self.at))
        self.lines, self.column = self._place(self.at)
        try:
            self.text, self.at = self.text[self.at :] + self.decoder.decode(chunk, final=not chunk), 0
        except UnicodeDecodeError as error:
            what = _not_utf8(error.object[error.start], self.bytes + error.start)
            raise DataError(f"{self.path}: {what}") from None
        self.bytes += len(chunk)
        return bool(chunk)

    def skip_space(self) -> str:
        """The next character that is not white space, left to be read; empty at the end."""
        while True:
            while self.at < len(self.text) and self.text[self.at] in " \t\r\n":
                self.at += 1
            if self.at < len(self.text):
                return self.text[self.at]
            if not self.more():
                return ""

    def place(self, at: int) -> str:
        """Where in the stream that character of the text is."""
        lines, column = self._place(at)
        return f"line {lines + 1}, character {column + 1}"

    def _place(self, at: int) -> tuple[int, int]:
        lines = self.text.count("\n", 0, at)
        column = at - self.text.rindex("\n", 0, at) - 1 if lines else self.column + at
        return self.lines + lines, column

    def wrong(self, number: int, got: str, want: str) -> DataError:
        """The error at a row after which nothing can be told apart any more."""
        return DataError(f"{self.path}:row {number}: {got}, {want}. Correct the array, or write JSON lines.")


def _csv(path: Path, stream: IO[bytes]) -> Iterator[Place]:
    csv.field_size_limit(sys.maxsize)  # its default refuses texts of more than 131,072 characters
    reader = csv.reader(_csv_lines(path, stream), strict=True)
    header: list[str] | None = None
    line = 1
    while True:
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise DataError(
                f"{path}:{line}: invalid CSV: {error}, want closed quotes. Correct the file."
            ) from None
        if header is None:
            if twice := [name for index, name in enumerate(cells) if name in cells[:index]]:
                raise DataError(f"{path}:1: column '{twice[0]}' stands twice, want it once. Rename one.")
            header = cells
        elif cells and len(cells) != len(header):
            problem = f"got {len(cells)} cells, want {len(header)} as in the first line. Correct the row."
            yield Place(str(line), None, problem)
        elif cells:
            yield Place(str(line), typed_cells(dict(zip(header, cells, strict=True))))
        line = reader.line_num + 1


def _csv_lines(path: Path, stream: IO[bytes]) -> Iterator[str]:
    for number, line in enumerate(stream, start=1):
        try:
            yield (line.removeprefix(codecs.BOM_UTF8) if number == 1 else line).decode()
        except UnicodeDecodeError as error:
            raise DataError(f"{path}:{number}: {_not_utf8(line[error.start], error.start)}") from None


def _parquet(path: Path, stream: IO[bytes]) -> Iterator[Place]:
    with ExitStack() as stack:
        if path.name.lower().endswith(".gz"):  # Parquet is read from its end, gzip only from its beginning
            unpacked = stack.enter_context(tempfile.TemporaryFile())
            shutil.copyfileobj(stream, unpacked)
            stream = unpacked
        number = 0
        for batch in pq.ParquetFile(stream).iter_batches(batch_size=_PARQUET_ROWS):
            for values in batch.to_pylist():
                number += 1
                yield Place(f"row {number}", values)


_READERS: dict[str, Callable[[Path, IO[bytes]], Iterator[Place]]] = {
    "jsonl": _json,
    "json": _json,
    "csv": _csv,
    "parquet": _parquet,
}
SUFFIXES = tuple(f".{kind}{packed}" for kind in _READERS for packed in ("", ".gz"))
