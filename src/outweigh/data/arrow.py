"""Pairs as Arrow record batches, written one batch at a time and read back one pair at a time."""

import hashlib
from collections.abc import Mapping
from typing import Any

import pyarrow as pa

from outweigh.data.fields import Value
from outweigh.data.records import Message, Pair, Text
from outweigh.errors import DataError

TEXTS = ("prompt", "chosen", "rejected")
# Beside its texts each pair carries what later steps ask about all pairs at once, without reading them again:
# a 64-bit key of each text (equal keys are equal texts; two of 2 million collide with a chance of 1e-7), and
# lengths in characters.
KEYS = tuple(f"{name}_key" for name in TEXTS)
CHARACTERS = ("chosen_characters", "rejected_characters")
OWN_COLUMNS = (*TEXTS, *KEYS, *CHARACTERS, "row", "origin")

_MESSAGES = pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())]))
_BATCH_PAIRS = 2000
# An Arrow string column ends at 2 GB, which long texts reach before so many pairs are there.
_BATCH_CHARACTERS = 1 << 26


def text_key(text: Text) -> int:
    """A signed 64-bit hash of a text, roles included; each message's length keeps the borders apart."""
    joined = "".join(f"{role}\0{len(content)}\0{content}" for role, content in text)
    return int.from_bytes(hashlib.blake2b(joined.encode(), digest_size=8).digest(), "big", signed=True)


def pair_of(values: Mapping[str, Any]) -> Pair:
    """The pair in one row of the Arrow table, as a dict."""
    prompt, chosen, rejected = (
        tuple(Message(m["role"], m["content"]) for m in values[name]) for name in TEXTS
    )
    columns = {name: value for name, value in values.items() if name not in OWN_COLUMNS}
    return Pair(prompt, chosen, rejected, values["row"], values["origin"], columns)


class PairWriter:
    """Writes pairs to an Arrow stream in batches; the first pair sets which optional columns there are."""

    def __init__(self, sink: Any) -> None:
        self._sink = sink
        self._stream: pa.RecordBatchStreamWriter | None = None
        self._schema: pa.Schema | None = None
        self._first: Pair | None = None
        self._waiting: list[Pair] = []
        self._characters = 0

    def check(self, pair: Pair) -> None:
        """Refuses a pair that lacks an optional column that the first one has, or has another.

        Raises:
            DataError: it does, or holds another type there. The message has no origin.
        """
        if self._first is None or pair.columns == self._first.columns:
            return
        first, columns = self._first, pair.columns
        if columns.keys() != first.columns.keys():
            for name in first.columns.keys() - columns.keys():
                raise DataError(
                    f"no '{name}', but {first.origin} has it, want it on every row or on none. "
                    "Write a value here, or drop the column."
                )
            name = min(columns.keys() - first.columns.keys())
            raise DataError(
                f"'{name}' is here, but {first.origin} lacks it, want it on every row or on none. "
                "Write a value there, or drop the column."
            )
        for name, value in first.columns.items():
            if type(columns[name]) is not type(value):
                got, want = type(columns[name]).__name__, type(value).__name__
                raise DataError(
                    f"'{name}' is of type {got}, want {want} as on {first.origin}. Correct the row."
                )

    def add(self, pair: Pair) -> None:
        """Takes a pair that `check` has passed."""
        if self._first is None:
            self._first = pair
        self._waiting.append(pair)
        self._characters += sum(len(message.content) for message in pair.prompt + pair.chosen + pair.rejected)
        if len(self._waiting) >= _BATCH_PAIRS or self._characters >= _BATCH_CHARACTERS:
            self._flush()

    def close(self) -> None:
        """Writes what is left, and the end of the stream."""
        self._flush()
        if self._stream is not None:
            self._stream.close()

    def _flush(self) -> None:
        if not self._waiting:
            return
        columns = _own_arrays(self._waiting)
        for name, value in self._waiting[0].columns.items():
            columns[name] = pa.array([pair.columns[name] for pair in self._waiting], _arrow_type(value))
        batch = pa.RecordBatch.from_pydict(columns)
        if self._stream is None:
            self._schema = batch.schema
            self._stream = pa.ipc.new_stream(self._sink, batch.schema)
        self._stream.write_batch(batch.select(self._schema.names))  # type: ignore[union-attr]  # set with _stream
        self._waiting, self._characters = [], 0


def _own_arrays(pairs: list[Pair]) -> dict[str, pa.Array]:
    texts = {name: [getattr(pair, name) for pair in pairs] for name in TEXTS}
    arrays = {name: _message_lists(texts[name]) for name in TEXTS}
    for name, key in zip(TEXTS, KEYS, strict=True):
        arrays[key] = pa.array([text_key(text) for text in texts[name]], pa.int64())
    for name, count in zip(TEXTS[1:], CHARACTERS, strict=True):
        lengths = [sum(len(content) for _, content in text) for text in texts[name]]
        arrays[count] = pa.array(lengths, pa.int64())
    arrays["row"] = pa.array([pair.row for pair in pairs], pa.int64())
    arrays["origin"] = pa.array([pair.origin for pair in pairs], pa.string())
    return arrays


def _message_lists(texts: list[Text]) -> pa.Array:
    return pa.array([[message._asdict() for message in text] for text in texts], _MESSAGES)


def _arrow_type(value: Value) -> pa.DataType:
    if isinstance(value, str):
        return pa.string()
    return pa.list_(pa.float64()) if isinstance(value, list) else pa.float64()
