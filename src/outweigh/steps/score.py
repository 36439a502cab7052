"""`outweigh score`: one row in, one row out, with its rewards."""

import json
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from outweigh.data.files import RawRow, content_hash, raw_rows
from outweigh.data.pairs import Data, OnBadRows, parsed
from outweigh.data.records import Text
from outweigh.data.rows import has_lists, row_candidates, row_ranking
from outweigh.data.writing import json_line
from outweigh.errors import ConfigError, DataError, ServerRefusal
from outweigh.metrics.arrays import FloatArray
from outweigh.models.ensemble import load_scorer, members_of
from outweigh.models.features import checkpoint_identity
from outweigh.models.reward import Scorer
from outweigh.progress import progress
from outweigh.servers.config import ServerConfig, is_server, masked
from outweigh.steps.record import check_apart
from outweigh.steps.unfinished import check_free, finished_rows, unfinished_rows

CHUNK = 2048  # rows scored at once; their texts are sorted by length


def score(
    model: str | Path | Scorer,
    data: Data,
    *,
    out: str | Path,
    server: ServerConfig | None = None,
    on_bad_rows: OnBadRows = "error",
    resume: bool = False,
) -> dict[str, Any]:
    """What was done; each row of the data goes to `out`, in order, with the rewards of its texts added.

    A pair gets `reward_chosen`, `reward_rejected` and `gap`; a row of K `responses` gets `rewards`, in their
    order, labelled or not; a row whose chosen and rejected are lists gets a list for each. Of several models
    as one (`uwo:A,B`) each reward has its `spread` beside it, the std over the models. A served one is asked
    as `server` says. While it goes on, what is finished stands in `out`.unfinished; with `resume` it is taken
    from there, and a finished file of the same data and model is left as it is.

    Raises:
        DataError: a row is not what it should be and `on_bad_rows` is error, none can be scored, or the file
            can't be written.
        ConfigError: `out` is the data itself, or a folder; there is a file, finished or not, and no `resume`;
            what is there is of other data or another model; or `resume` with a model in memory, which has no
            name.
        ModelError: the model can't be loaded.
    """
    path, started = Path(out), time.monotonic()
    check_apart(path, data)
    check_free(path, resume)
    if resume and isinstance(model, Scorer):
        raise ConfigError("resume: got a model in memory, which can't be told from another. Give its name.")
    identity = _identity(model, data)
    if resume and (rows := finished_rows(path, identity)) is not None:
        return {"rows": rows, "already_there": True, "out": path}
    scorer = load_scorer(model, server)
    with unfinished_rows(path, identity, resume=resume) as kept, progress("rows", None, kept.read) as advance:
        done, raws = kept.read, islice(raw_rows(data), kept.read, None)
        while chunk := list(islice(raws, CHUNK)):
            lines, bad = _lines(scorer, chunk, on_bad_rows)
            kept.add(lines, len(chunk), bad)
            advance(len(chunk))
        if not kept.written:
            raise DataError(f"none of {kept.read:,} rows can be scored. The first: {kept.bad[0]}")
    return {
        "rows": kept.written,
        "already_there": False,
        "bad_rows": kept.bad,
        "resumed_at": done,
        "seconds": time.monotonic() - started,
        "out": path,
    }


def _identity(model: str | Path | Scorer, data: Data) -> str:
    """One line that changes with the data and the models."""
    if isinstance(model, Scorer):
        return json.dumps([type(model).__name__, content_hash(data)])
    weights = [
        masked(name) if is_server(name) else checkpoint_identity(name) for name in members_of(model).names
    ]
    return json.dumps([masked(model), weights, content_hash(data)])


def _lines(model: Scorer, chunk: Sequence[RawRow], on_bad_rows: OnBadRows) -> tuple[list[bytes], list[str]]:
    """The rows with their rewards, and what is wrong with those that have no texts or can't be written."""
    good, lines, bad = [], [], list[str]()
    for raw in chunk:
        with left_out(bad, on_bad_rows):
            good.append((raw, row_texts(raw)))
    each_scored = score_groups(model, [texts for _, texts in good], on_bad_rows)
    for (raw, _), scored in zip(good, each_scored, strict=True):
        with left_out(bad, on_bad_rows, f"{raw.origin}: "):
            assert raw.values is not None  # row_texts has refused what could not be read
            lines.append(json_line(_row(raw.values, *unless_refused(scored))))
    return lines, bad


@contextmanager
def left_out(bad: list[str], on_bad_rows: OnBadRows, origin: str = "") -> Iterator[None]:
    """A block whose failure is a bad row's."""
    try:
        yield
    except DataError as error:
        if on_bad_rows == "error":
            raise DataError(f"{origin}{error}") from None
        bad.append(f"{origin}{error}")


def _row(values: dict[str, Any], reward: FloatArray, spread: FloatArray | None) -> dict[str, Any]:
    """The row with what its texts were given."""
    found = values | _named("reward", values, reward.tolist())
    if "responses" not in values and not has_lists(values):
        found["gap"] = found["reward_chosen"] - found["reward_rejected"]
    return found if spread is None else found | _named("spread", values, spread.tolist())


Scored = tuple[FloatArray, FloatArray | None]
"""Rewards (K,) of K texts, and their spreads where several models gave them."""


def unless_refused(found: Scored | ServerRefusal) -> Scored:
    """What was given.

    Raises:
        DataError: nothing was, as a server refused.
    """
    if isinstance(found, ServerRefusal):
        raise DataError(f"{found} Drop the row, or skip bad rows.")
    return found


def score_groups(
    model: Scorer, groups: Sequence[Sequence[tuple[Text, Text]]], on_bad_rows: OnBadRows
) -> list[Scored | ServerRefusal]:
    """What each group's K texts are given, all at once, or why a server refuses one of them; but where that
    is an error, up to the first group alone."""
    if not groups:
        return []
    texts = [text for each in groups for text in each]
    reward_MN, refused = model.score_taken(texts, skip=on_bad_rows == "skip")
    reward_N, several, found = model.combined(reward_MN), len(reward_MN) > 1, list[Scored | ServerRefusal]()
    ends = np.cumsum([len(each) for each in groups])
    for start, end in zip([0, *ends], ends, strict=False):
        why = next((refused[place] for place in range(start, end) if place in refused), None)
        spread = reward_MN[:, start:end].std(axis=0) if several else None
        found.append((reward_N[start:end], spread) if why is None else why)
    return found


def row_texts(raw: RawRow, parse: Any = None) -> list[tuple[Text, Text]]:
    """Each (prompt, response) of a row, in the row's order; of one with responses its label is not read."""
    several = "responses" in (raw.values or {})
    found = parsed(raw, parse or (row_candidates if several else row_ranking))
    return [(found.prompt, response) for response in found.responses]


def _named(what: str, row: dict[str, Any], values: list[float]) -> dict[str, Any]:
    """The values of a row's texts under the names of its columns: chosen and rejected, or in a list."""
    if "responses" in row:
        return {f"{what}s": values}
    if not has_lists(row):
        return {f"{what}_chosen": values[0], f"{what}_rejected": values[1]}
    first = len(row["chosen"])
    return {f"{what}s_chosen": values[:first], f"{what}s_rejected": values[first:]}
