"""Finding the data that a name means, and streaming its raw rows, each with where it stands."""

import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from outweigh.data.fields import near, shown
from outweigh.data.formats import SUFFIXES, read_file
from outweigh.errors import DataError

_HUB_NAME = re.compile(r"(?P<name>[\w][\w.-]*(/[\w.-]+)?)(\[(?P<split>[^\]]+)\])?")


class RawRow(NamedTuple):
    """One row as it stands in the data; `values` is None where `problem` says why it could not be read."""

    row: int  # 0-based over all files of the data, bad rows counted
    origin: str  # "file:line" or "file:row n", 1-based within the file
    values: dict[str, Any] | None
    problem: str = ""


def raw_rows(data: str | Path | Sequence[Mapping[str, Any]]) -> Iterator[RawRow]:
    """The rows of a file, a folder, a Hub data set or a list, in order and unchanged.

    Raises:
        DataError: there is no such data, a file can't be read, or one holds no row.
    """
    if not isinstance(data, (str, Path)):
        yield from _given_rows(data)
    elif files := find_files(data):
        yield from _file_rows(files)
    else:
        yield from hub_rows(str(data))


def find_files(data: str | Path) -> list[Path]:
    """The files that `data` means: one file, or those of a folder, sorted; none where it must be a Hub name.

    Raises:
        DataError: no such file, a folder without data, or a kind of file that is not read.
    """
    path = Path(data).expanduser()
    if not str(data):
        raise DataError("data: got an empty name, want a file, a folder or a Hub data set.")
    if _is_data(whole := Path(str(data).partition("[")[0])) and whole.exists() and not path.exists():
        raise DataError(f"{data}: a split in brackets is of Hub data sets. Name the file alone, {whole}.")
    if path.is_dir():
        found = sorted(
            each for each in path.iterdir() if _is_data(each) and each.name[0] != "." and each.is_file()
        )
        if not found:
            raise DataError(f"{path}: no data in this folder, want files ending in {', '.join(SUFFIXES)}.")
        return found
    if path.exists():
        if not _is_data(path):
            raise DataError(
                f"{path}: can't tell its kind, want a name ending in {', '.join(SUFFIXES)}. Rename it."
            )
        return [path]
    if isinstance(data, Path) or _is_data(path) or not _HUB_NAME.fullmatch(str(data)):
        beside = [each.name for each in path.parent.iterdir()] if path.parent.is_dir() else []
        hint = near(path.name, beside)
        raise DataError(
            f"{path}: no such file. " + (f"Did you mean '{hint}'?" if hint else "Check the path.")
        )
    return []


def content_hash(data: str | Path | Sequence[Mapping[str, Any]]) -> str:
    """SHA-256 over the files of the data, in order; of a Hub data set, over the files it was loaded from; of
    rows in memory, over their values.
    """
    if not isinstance(data, (str, Path)):
        digest = hashlib.sha256()
        for _ in hashed(raw_rows(data), digest):
            pass
        return digest.hexdigest()
    files = find_files(data)
    if not files:
        return _hub_hash(str(data))
    digest = hashlib.sha256()
    for path in files:
        with path.open("rb") as stream:
            digest.update(hashlib.file_digest(stream, "sha256").digest())
    return digest.hexdigest()


def hashed(rows: Iterator[RawRow], digest: Any) -> Iterator[RawRow]:
    """The rows, each added to the digest on its way."""
    for raw in rows:
        digest.update(json.dumps(raw.values, sort_keys=True, default=str).encode())
        yield raw


def hub_rows(name: str) -> Iterator[RawRow]:
    """The rows of a Hub data set `name` or `name[split]`; the split is `train` unless named.

    Raises:
        DataError: it can't be loaded.
    """
    loaded, split = _load(name)
    plain_name = name.partition("[")[0]
    for row, values in enumerate(loaded):
        yield RawRow(row, f"{plain_name}[{split}]:row {row + 1}", values)


def _is_data(path: Path) -> bool:
    return path.name.lower().endswith(SUFFIXES)


def _file_rows(files: Sequence[Path]) -> Iterator[RawRow]:
    row = 0
    for path in files:
        first = row
        for place in read_file(path):
            yield RawRow(row, f"{path}:{place.at}", place.values, place.problem)
            row += 1
        if row == first:
            raise DataError(f"{path}: holds no rows, want at least one. Remove the file, or write it again.")


def _given_rows(data: Sequence[Mapping[str, Any]]) -> Iterator[RawRow]:
    row = -1
    for row, values in enumerate(data):
        origin = f"row {row + 1}"
        if isinstance(values, Mapping):
            yield RawRow(row, origin, dict(values))
        else:
            yield RawRow(
                row, origin, None, f"got {shown(values)}, want a dict with named columns. Correct it."
            )
    if row < 0:
        raise DataError("data: holds no rows, want at least one. Pass rows, or the name of a file.")


def _load(name: str) -> tuple[Any, str]:
    """The loaded Hub data set, and its split's name."""
    import datasets  # late: it takes a second, and files need it only once they are parsed

    match = _HUB_NAME.fullmatch(name)
    assert match, "find_files has refused every other name"
    split = match["split"] or "train"
    try:
        return datasets.load_dataset(match["name"], split=split), split
    except Exception as error:  # anything can come out of a download, and all of it means the same here
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise DataError(
            f"{name}: no such file or folder here, and it can't be loaded as a Hub data set, split {split} "
            f"({lines[0][:200]}). Check the path or the name, the connection, and the split: name[split]."
        ) from None


def _hub_hash(name: str) -> str:
    loaded, split = _load(name)
    digest = hashlib.sha256(split.encode())
    for file in loaded.cache_files:
        with open(file["filename"], "rb") as stream:
            digest.update(hashlib.file_digest(stream, "sha256").digest())
    return digest.hexdigest()
