"""Files that appear whole or not at all, and rows in the shapes that peers train on."""

import gzip
import json
import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from typing import IO, Any

import numpy as np

from outweigh.data.records import Pair, Text
from outweigh.data.rows import row_texts
from outweigh.errors import ConfigError, DataError, what_to_do

# What each peer's reward training passes over in silence, for the note that says so.
IGNORED_BY = {name: ("flip_rate", "weight") for name in ("trl", "openrlhf", "ms-swift")}
_TURNED = ("mean preference difference", "mean_difference")  # positive where the models side with chosen
_GPT4 = ("GPT4 label", "gpt4_label")
_K_COLUMNS = ("responses", "ranks", "ratings", "gold", "chosen", "rejected")


@contextmanager
def replaced_whole(path: Path) -> Iterator[IO[bytes]]:
    """A binary stream that becomes `path` once the block ends without an error; gzipped if named .gz.

    Raises:
        DataError: it can't be written (no space, no right). What stood at `path` is as it was.
    """
    unfinished = ""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, unfinished = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
        with os.fdopen(handle, "wb") as raw:
            if path.name.endswith(".gz"):
                with gzip.GzipFile(
                    "", "wb", fileobj=raw, mtime=0
                ) as packed:  # no time: same rows, same bytes
                    yield packed  # type: ignore[misc]  # GzipFile is a binary stream in all but its type
            else:
                yield raw
        os.chmod(unfinished, 0o644)  # mkstemp's files are private; this one is to be read like any other
        os.replace(unfinished, path)
    except OSError as error:
        raise DataError(
            f"{path}: can't be written, got {error.strerror or error}. {what_to_do(error)}"
        ) from None
    finally:
        if unfinished:
            Path(unfinished).unlink(missing_ok=True)


def write_rows(path: str | Path, rows: Iterable[Mapping[str, Any]]) -> int:
    """The number of rows written to `path` as JSON lines, gzipped if its name ends in .gz.

    Raises:
        ConfigError: the name ends neither in .jsonl nor in .jsonl.gz.
        DataError: a value has no place in JSON (NaN, infinity, an object), or the file can't be written.
    """
    path = Path(path)
    check_lines_name(path)
    written = 0
    with replaced_whole(path) as out:
        for row in rows:
            try:
                out.write(json_line(row))
            except DataError as error:
                raise DataError(f"{path}:{written + 1}: {error}") from None
            written += 1
    return written


def check_lines_name(path: Path) -> None:
    """Nothing, if the name is one of JSON lines.

    Raises:
        ConfigError: it ends neither in .jsonl nor in .jsonl.gz.
    """
    if not path.name.endswith((".jsonl", ".jsonl.gz")):
        raise ConfigError(
            f"{path}: rows are written as JSON lines, want a name ending in .jsonl or .jsonl.gz."
        )


def json_line(row: Mapping[str, Any]) -> bytes:
    """The row as a line of JSON.

    Raises:
        DataError: a value has no place in JSON (NaN, infinity, an object). The message has no origin.
    """
    try:
        return json.dumps(row, default=json_value, allow_nan=False, ensure_ascii=False).encode() + b"\n"
    except UnicodeEncodeError:  # half a surrogate pair in a column that nothing reads: JSON's escape keeps it
        return json.dumps(row, default=json_value, allow_nan=False).encode() + b"\n"
    except (TypeError, ValueError) as error:
        raise DataError(
            f"can't be written as JSON, got {error}, want finite numbers, strings, lists. "
            "Drop the column from the data, or correct it."
        ) from None


def json_value(value: object) -> Any:
    """What JSON has for a number or an array of numpy's, or a date."""
    if isinstance(value, (np.generic, np.ndarray)):
        return value.tolist()
    if isinstance(value, date):
        return value.isoformat()
    raise TypeError(f"a {type(value).__name__}")


def row_of_pair(row: Mapping[str, Any], pair: Pair) -> dict[str, Any]:
    """The row that stands for one pair: a copy of the row itself, or one of the pairs of its K responses.

    Of K responses the two are taken as the row wrote them; its lists of responses, ranks and ratings go, and
    the pair's own columns (ratings, places, number of pairs) come.
    """
    if "responses" in row:
        sources = row["responses"], row["responses"]
    elif (
        "chosen_index" in pair.columns
        and isinstance(row["chosen"], (list, tuple))
        and "chosen_index" not in row
    ):
        sources = row["chosen"], row["rejected"]
    else:
        return dict(row)
    return {
        **{name: value for name, value in row.items() if name not in _K_COLUMNS},
        "chosen": sources[0][int(pair.columns["chosen_index"])],
        "rejected": sources[1][int(pair.columns["rejected_index"])],
        **pair.columns,
    }


def swap_row(row: Mapping[str, Any]) -> dict[str, Any]:
    """The row with the other label: each column of the chosen response and of the rejected one change places.

    Those are `chosen` and `rejected`, and every column named alike but for that word (`votes_chosen`,
    `chosen score list`, ...). The mean preference difference changes its sign, GPT-4's label its side.

    Raises:
        DataError: a column such as `votes_chosen` has no counterpart.
    """
    swapped = dict(row)
    for name in row:
        if (counterpart := _counterpart(name)) is None:
            continue
        if counterpart not in row:
            raise DataError(
                f"column '{name}': can't be swapped, want '{counterpart}' beside it. Add or drop it."
            )
        swapped[name] = row[counterpart]
    for name in _TURNED:
        if name in row:
            swapped[name] = -row[name]
    for name in _GPT4:
        if name in row and row[name] in (0, 1):  # -1: GPT-4 was not asked
            swapped[name] = 1 - row[name]
    return swapped


def _counterpart(name: str) -> str | None:
    """The name of the same column of the other response; None where the column belongs to neither."""
    words = {"chosen": "rejected", "rejected": "chosen"}
    for separator in ("_", " ", "-"):
        parts = name.split(separator)
        if len(parts) > 1 or name in words:
            for end in (0, -1):
                if parts[end] in words:
                    parts[end] = words[parts[end]]
                    return separator.join(parts)
    return None


def for_trl(row: Mapping[str, Any]) -> dict[str, Any]:
    """The row as `trl reward` reads it: prompt?, chosen, rejected, and a float margin on every row.

    Strings stay strings and message lists stay lists; where the row mixes both, or is written in a way that
    TRL does not know, it becomes message lists.

    Raises:
        DataError: the row is no pair.
    """
    return {**_same_kind(row), "margin": float(row.get("margin", 0.0))}


def for_openrlhf(row: Mapping[str, Any]) -> dict[str, Any]:
    """The row as OpenRLHF's train_rm reads it, with its keys prompt, chosen and rejected; lists need its
    --data.apply_chat_template, the margin its --model.margin_loss_enable.

    Raises:
        DataError: the row is no pair.
    """
    return for_trl(row)


def for_ms_swift(row: Mapping[str, Any]) -> dict[str, Any]:
    """The row as ms-swift's `rlhf --rlhf_type rm` reads it: whole conversations, and a float margin.

    Raises:
        DataError: the row is no pair.
    """
    prompt, chosen, rejected = row_texts(row)
    return {
        "messages": _listed(prompt + chosen),
        "rejected_messages": _listed(prompt + rejected),
        "margin": float(row.get("margin", 0.0)),
    }


PEER_ROWS = {"trl": for_trl, "openrlhf": for_openrlhf, "ms-swift": for_ms_swift}


def _same_kind(row: Mapping[str, Any]) -> dict[str, Any]:
    prompt, chosen, rejected = row_texts(row)
    own = {name: row[name] for name in ("prompt", "chosen", "rejected") if name in row}
    said = tuple(message.content for message in prompt)
    if all(isinstance(value, str) for value in own.values()) and said in ((), (own.get("prompt"),)):
        return own
    return {"prompt": _listed(prompt), "chosen": _listed(chosen), "rejected": _listed(rejected)}


def _listed(text: Text) -> list[dict[str, str]]:
    """The messages as dicts; a verbatim string is the assistant's."""
    return [{"role": "assistant" if role == "text" else role, "content": content} for role, content in text]
