"""All pairs of some data, memory-mapped; and reading them from files, folders, the Hub or rows."""

import hashlib
import io
import json
import logging
import pickle
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, NamedTuple

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from outweigh.data.arrow import CHARACTERS, KEYS, OWN_COLUMNS, PairWriter, pair_of
from outweigh.data.cache import appearing_whole, cache_folder
from outweigh.data.files import RawRow, content_hash, find_files, hashed, raw_rows
from outweigh.data.records import Candidates, Pair, Ranking, ReadCounts
from outweigh.data.rows import row_candidates, row_pairs, row_ranking, unread_columns
from outweigh.data.writing import replaced_whole
from outweigh.errors import ConfigError, DataError

Data = str | Path | Sequence[Mapping[str, Any]]
OnBadRows = Literal["error", "skip"]

logger = logging.getLogger(__name__)

_LAYOUT = 3
"""Of the cached files; a change of arrow.py, fields.py, formats.py or rows.py that changes what is stored, or
refused, raises it."""
_BAD_ROWS_HELD = 1000
_BLOCK_PAIRS = 50_000
"""Read through one mapping of the file: what was read through it stays resident until it ends."""


@dataclass(slots=True)
class Reading:
    """What was found while reading, beside the pairs themselves."""

    counts: ReadCounts = field(default_factory=ReadCounts)
    bad_rows: list[tuple[str, str]] = field(default_factory=list)
    """Origin and message of the first 1,000 rows skipped."""
    unread_columns: dict[str, str] = field(default_factory=dict)
    """Columns of the first row that nothing reads, each with the column it may misspell, or ''."""

    def warn(self) -> None:
        """Nothing; says how many rows were skipped, and why the first was."""
        if self.bad_rows:
            origin, said = self.bad_rows[0]
            logger.warning("Bad rows skipped: %d. %s: %s", self.counts.bad_rows, origin, said)


class PairSet:
    """Pairs in order, on disk as Arrow and mapped into memory, so that a million of them cost no RAM.

    The only carrier of pairs between layers. Columns come as numpy arrays of length B, the number of pairs.
    """

    def __init__(self, dataset: datasets.Dataset, reading: Reading, sha256: str, bad: Path | bytes) -> None:
        self.dataset = dataset
        self.sha256 = sha256
        """SHA-256 of the content of the data read."""
        self._reading = reading
        self._bad = bad
        self._arrow = dataset.with_format("arrow")

    @classmethod
    def from_rows(
        cls, rows: Sequence[Mapping[str, Any]], *, on_bad_rows: OnBadRows = "error", keep: Sequence[str] = ()
    ) -> "PairSet":
        """The pairs of rows that are in memory already; any shape of row that a file may have.

        Raises:
            DataError: a row is not what it should be.
        """
        sink, bad, digest = pa.BufferOutputStream(), io.BytesIO(), hashlib.sha256()
        reading = _read(hashed(raw_rows(rows), digest), sink, bad, on_bad_rows, keep)
        dataset = datasets.Dataset.from_buffer(sink.getvalue())
        reading.warn()
        return cls(dataset, reading, digest.hexdigest(), bad.getvalue())

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> Pair:
        if not -len(self) <= index < len(self):
            raise IndexError(f"pair {index} of {len(self)}")
        return pair_of(self._arrow[int(index) % len(self)].to_pylist()[0])

    def __iter__(self) -> Iterator[Pair]:
        for start in range(0, len(self), _BLOCK_PAIRS):
            block = self._mapped_again().select(range(start, min(start + _BLOCK_PAIRS, len(self))))
            for batch in block.iter(batch_size=1000):
                yield from map(pair_of, batch.to_pylist())

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the optional columns that the data has, canonical ones and kept ones."""
        return tuple(name for name in self.dataset.column_names if name not in OWN_COLUMNS)

    @property
    def scalars(self) -> tuple[str, ...]:
        """Those of them that have a number or a word a pair, not a list."""
        types = self.dataset.data.schema
        return tuple(name for name in self.columns if not pa.types.is_list(types.field(name).type))

    @property
    def counts(self) -> ReadCounts:
        """What reading the data kept and dropped; a selection keeps the counts of the whole."""
        return self._reading.counts

    @property
    def bad_rows(self) -> list[tuple[str, str]]:
        """Origin and message of the rows skipped, the first 1,000; `write_bad_rows` has all."""
        return self._reading.bad_rows

    @property
    def unread_columns(self) -> dict[str, str]:
        """Columns of the data that nothing reads, each with the column it may misspell, or ''."""
        return self._reading.unread_columns

    def column(self, name: str) -> NDArray[Any] | None:
        """An optional column (B,): float64 for numbers, objects for strings and lists; None if absent."""
        if name not in self.columns:
            return None
        values = self._stored(name)
        if pa.types.is_floating(values.type):
            return np.asarray(values.to_numpy(), dtype=np.float64)
        found = np.empty(len(self), dtype=object)
        found[:] = values.to_pylist()
        return found

    def vectors(self, name: str) -> NDArray[np.float32] | None:
        """An optional column of lists as a matrix (B, H); None if absent.

        Raises:
            DataError: the lists are not all of one length.
        """
        if name not in self.columns:
            return None
        values = self._stored(name)
        lengths = pc.list_value_length(values).to_numpy()
        if lengths.min() != lengths.max():
            raise DataError(
                f"'{name}' has lists of {lengths.min()} to {lengths.max()} numbers, want as many in every "
                "row. Correct the rows."
            )
        found: NDArray[np.float32] = pc.list_flatten(values).to_numpy().astype(np.float32)
        return found.reshape(len(self), -1)

    @cached_property
    def rows(self) -> NDArray[np.int64]:
        """The 0-based row of the data that each pair comes from (B,)."""
        return self._integers("row")

    def characters(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Lengths of the chosen and of the rejected responses in characters, (B,) each."""
        return self._integers(CHARACTERS[0]), self._integers(CHARACTERS[1])

    def text_ids(self) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        """Numbers of the prompt, chosen and rejected texts, (B,) each, from 0; equal numbers are equal texts.

        Chosen and rejected share one numbering, which ignores the prompt.
        """
        prompt, chosen, rejected = self.text_keys()
        _, prompt_id = np.unique(prompt, return_inverse=True)
        _, response_id = np.unique(np.concatenate([chosen, rejected]), return_inverse=True)
        return prompt_id, response_id[: len(self)], response_id[len(self) :]

    def text_keys(self) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        """64-bit hashes of the prompt, chosen and rejected texts, (B,) each, comparable between data."""
        prompt, chosen, rejected = map(self._integers, KEYS)
        return prompt, chosen, rejected

    def fingerprint(self) -> str:
        """SHA-256 of the texts of these pairs in this order; a selection has its own."""
        return hashlib.sha256(np.stack(self.text_keys()).tobytes()).hexdigest()

    def select(self, indices: Sequence[int] | NDArray[Any]) -> "PairSet":
        """The pairs at these places, in their order; a mask of booleans is refused."""
        places = np.asarray(indices)
        if places.dtype == bool:
            raise TypeError("select: got a mask of booleans, want places. Pass np.flatnonzero(mask).")
        chosen = self.dataset.select(places.astype(np.int64))
        return PairSet(chosen, self._reading, self.sha256, self._bad)

    def write_bad_rows(self, path: str | Path) -> None:
        """Writes the rows skipped as JSON lines: origin, error, and the row where it could be parsed."""
        with replaced_whole(Path(path)) as out:
            if isinstance(self._bad, bytes):
                out.write(self._bad)
            else:
                with self._bad.open("rb") as stream:
                    shutil.copyfileobj(stream, out)

    def _mapped_again(self) -> datasets.Dataset:
        """The same pairs; where they lie on disk through a mapping of its own, whose pages go with it."""
        return pickle.loads(pickle.dumps(self._arrow)) if self._arrow.cache_files else self._arrow

    def _stored(self, name: str) -> pa.ChunkedArray:
        return self._arrow.select_columns([name])[:].column(name)

    def _integers(self, name: str) -> NDArray[np.int64]:
        return np.asarray(self._stored(name).to_numpy(), dtype=np.int64)


def read_pairs(
    data: "Data | PairSet",
    *,
    on_bad_rows: OnBadRows = "error",
    keep: Sequence[str] = (),
    cache_dir: str | Path | None = None,
) -> PairSet:
    """The pairs of a file, a folder, a Hub data set `name[split]`, or a list of rows.

    Files are parsed once, row by row, into a cache named by their content, which a second reading takes.
    `keep` names further columns to carry (numbers, strings, lists of numbers; a CSV's are strings).
    With `skip`, bad rows are counted and listed in `bad_rows`; with `error` the first one ends it all.

    Raises:
        DataError: there is no such data, a row is not what it should be, or no pair is left.
        ConfigError: `on_bad_rows` is neither error nor skip.
    """
    _check_known(on_bad_rows)
    if isinstance(data, PairSet):
        return data
    if not isinstance(data, (str, Path)):
        return PairSet.from_rows(data, on_bad_rows=on_bad_rows, keep=keep)
    sha256 = content_hash(data)
    # Origins hold the names of the files, so the same bytes under another name are another entry.
    names = [str(path) for path in find_files(data)] or [str(data)]
    identity = json.dumps([_LAYOUT, sha256, names, on_bad_rows, list(keep)])
    key = hashlib.sha256(identity.encode()).hexdigest()[:32]
    folder = Path(cache_dir or cache_folder()) / "pairs" / key
    if not folder.is_dir():
        _fill(folder, data, on_bad_rows, keep)
    about = json.loads((folder / "reading.json").read_text(encoding="utf-8"))
    reading = Reading(ReadCounts(**about["counts"]), [tuple(each) for each in about["bad"]], about["unread"])
    reading.warn()
    dataset = datasets.Dataset.from_file(str(folder / "pairs.arrow"))
    return PairSet(dataset, reading, sha256, folder / "bad_rows.jsonl")


class Rankings(NamedTuple):
    """Rows of ranked responses, what was found while reading them, and the rows skipped, as JSON lines."""

    rankings: list[Ranking]
    reading: Reading
    bad: bytes


def read_rankings(data: Data, *, on_bad_rows: OnBadRows = "error") -> Rankings:
    """The rows of the data as rankings, for listwise training; ties are equal ranks, and a row whose
    responses all share one rank is dropped and counted as tied.

    Raises:
        DataError: there is no such data, a row is not what it should be, or no ranking is left.
        ConfigError: `on_bad_rows` is neither error nor skip.
    """
    _check_known(on_bad_rows)
    reading, bad, found = Reading(), io.BytesIO(), []
    for raw in raw_rows(data):
        reading.counts.rows += 1
        try:
            ranking: Ranking = parsed(raw, row_ranking)
        except DataError as error:
            if on_bad_rows == "error":
                raise
            _skip(raw, error, reading, bad)
            continue
        if len(set(ranking.ranks)) > 1:
            found.append(ranking)
        else:
            reading.counts.tied += 1
    reading.warn()
    if not found:
        raise DataError(_nothing_left(reading))
    return Rankings(found, reading, bad.getvalue())


def read_candidates(data: Data) -> Iterator[Candidates]:
    """The rows of the data as prompts with K responses to choose from, with `gold` where it is there.

    Raises:
        DataError: there is no such data, or a row is not what it should be.
    """
    return (parsed(raw, row_candidates) for raw in raw_rows(data))


def parsed(raw: RawRow, parse: Any, *options: Any) -> Any:
    """What `parse` makes of a row.

    Raises:
        DataError: it could not be read, or is not what it should be; with where it stands.
    """
    if raw.values is None:
        raise DataError(f"{raw.origin}: {raw.problem}")
    try:
        return parse(raw.values, raw.row, raw.origin, *options)
    except DataError as error:
        raise DataError(f"{raw.origin}: {error}") from None


def _fill(folder: Path, data: Data, on_bad_rows: OnBadRows, keep: Sequence[str]) -> None:
    """Parses the data into `folder`, which appears only once it is whole."""
    try:
        with appearing_whole(folder) as unfinished:
            with (
                (unfinished / "bad_rows.jsonl").open("wb") as bad,
                pa.OSFile(str(unfinished / "pairs.arrow"), "wb") as sink,
            ):
                reading = _read(raw_rows(data), sink, bad, on_bad_rows, keep)
            about = {
                "counts": reading.counts.to_dict(),
                "bad": reading.bad_rows,
                "unread": reading.unread_columns,
            }
            (unfinished / "reading.json").write_text(json.dumps(about), encoding="utf-8")
    except OSError as error:  # of the cache only: what files can't be read has become a DataError already
        raise DataError(
            f"{folder.parent}: the cache can't be written, got {error.strerror or error}. "
            "Free some space, or name another folder in OUTWEIGH_CACHE."
        ) from None


def _read(
    rows: Iterator[RawRow], sink: Any, bad: Any, on_bad_rows: OnBadRows, keep: Sequence[str]
) -> Reading:
    """Streams the rows' pairs into `sink` as Arrow and bad rows into `bad` as JSON lines."""
    reading, writer = Reading(), PairWriter(sink)
    counts = reading.counts
    for raw in rows:
        counts.rows += 1
        try:
            found = parsed(raw, row_pairs, keep)
            for pair in found.pairs:
                try:
                    writer.check(pair)
                except DataError as error:
                    raise DataError(f"{raw.origin}: {error}") from None
        except DataError as error:
            if on_bad_rows == "error":
                raise
            _skip(raw, error, reading, bad)
            continue
        if counts.rows == counts.bad_rows + 1 and raw.values is not None:  # the first good row
            reading.unread_columns = unread_columns(raw.values, keep)
        counts.tied += found.tied
        counts.empty += found.empty
        counts.identical += found.identical
        counts.pairs += len(found.pairs)
        for pair in found.pairs:
            writer.add(pair)
    writer.close()
    if not counts.pairs:
        raise DataError(_nothing_left(reading))
    return reading


def _skip(raw: RawRow, error: DataError, reading: Reading, bad: Any) -> None:
    """Nothing; the bad row is counted, and written into `bad` as a JSON line."""
    reading.counts.bad_rows += 1
    message = str(error).removeprefix(f"{raw.origin}: ")
    if len(reading.bad_rows) < _BAD_ROWS_HELD:
        reading.bad_rows.append((raw.origin, message))
    line: dict[str, Any] = {"origin": raw.origin, "error": message}
    line |= {"raw": raw.values} if raw.values is not None else {}
    bad.write(json.dumps(line, default=str).encode() + b"\n")


def _check_known(on_bad_rows: str) -> None:
    if on_bad_rows not in ("error", "skip"):
        raise ConfigError(f"on_bad_rows: got {on_bad_rows!r}, want error or skip.")


def _nothing_left(reading: Reading) -> str:
    counts = reading.counts
    first = "".join(f" The first bad row: {origin}: {message}" for origin, message in reading.bad_rows[:1])
    return (
        f"data: no pair is left of {counts.rows} rows, got {counts.bad_rows} bad rows, {counts.tied} ties, "
        f"{counts.empty} with an empty response and {counts.identical} with identical ones, want one pair. "
        f"Correct the rows.{first}"
    )
