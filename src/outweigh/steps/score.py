"""`outweigh score`: one row in, one row out, with its rewards."""

from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from outweigh.data.files import RawRow, raw_rows
from outweigh.data.pairs import Data, parsed
from outweigh.data.records import Text
from outweigh.data.rows import row_candidates, row_ranking
from outweigh.data.writing import write_rows
from outweigh.metrics.arrays import FloatArray
from outweigh.models.ensemble import load_scorer
from outweigh.models.reward import Scorer
from outweigh.servers.config import ServerConfig
from outweigh.steps.record import check_apart

CHUNK = 2048  # rows scored at once; their texts are sorted by length


def score(
    model: str | Path | Scorer, data: Data, *, out: str | Path, server: ServerConfig | None = None
) -> int:
    """The number of rows written: each row of the data, in order, with the rewards of its texts added.

    A pair gets `reward_chosen`, `reward_rejected` and `gap`; a row of K `responses` gets `rewards`, in their
    order, labelled or not; a row whose chosen and rejected are lists gets a list for each. Of several models
    as one (`uwo:A,B`) each reward has its `spread` beside it, the std over the models. A served one is asked
    as `server` says.

    Raises:
        DataError: a row is not what it should be, or the file can't be written.
        ConfigError: `out` is the data itself, or a folder.
        ModelError: the model can't be loaded.
    """
    check_apart(Path(out), data)
    return write_rows(out, _scored(load_scorer(model, server), raw_rows(data)))


def _scored(model: Scorer, rows: Iterator[RawRow]) -> Iterator[dict[str, Any]]:
    while chunk := list(islice(rows, CHUNK)):
        each_rewards = score_groups(model, [row_texts(raw) for raw in chunk])
        for raw, (reward, spread) in zip(chunk, each_rewards, strict=True):
            assert raw.values is not None  # row_texts has refused what could not be read
            found = raw.values | _named("reward", raw.values, reward.tolist())
            if len(reward) == 2 and "responses" not in raw.values:
                found["gap"] = found["reward_chosen"] - found["reward_rejected"]
            if spread is not None:
                found |= _named("spread", raw.values, spread.tolist())
            yield found


def score_groups(
    model: Scorer, groups: Sequence[Sequence[tuple[Text, Text]]]
) -> list[tuple[FloatArray, FloatArray | None]]:
    """Rewards (K,) of each group's K texts, and their spreads where there are several models; all at once."""
    reward_MN = model.score_each([text for each in groups for text in each])
    ends = np.cumsum([len(each) for each in groups])[:-1]
    spreads = [None] * len(groups) if len(reward_MN) == 1 else np.split(reward_MN.std(axis=0), ends)
    return list(zip(np.split(model.combined(reward_MN), ends), spreads, strict=True))


def row_texts(raw: RawRow, parse: Any = None) -> list[tuple[Text, Text]]:
    """Each (prompt, response) of a row, in the row's order; of one with responses its label is not read."""
    several = "responses" in (raw.values or {})
    found = parsed(raw, parse or (row_candidates if several else row_ranking))
    return [(found.prompt, response) for response in found.responses]


def _named(what: str, row: dict[str, Any], values: list[float]) -> dict[str, Any]:
    """The values of a row's texts under the names of its columns: chosen and rejected, or in a list."""
    if "responses" in row:
        return {f"{what}s": values}
    if len(values) == 2:
        return {f"{what}_chosen": values[0], f"{what}_rejected": values[1]}
    first = len(row["chosen"])
    return {f"{what}s_chosen": values[:first], f"{what}s_rejected": values[first:]}
