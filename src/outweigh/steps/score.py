"""`outweigh score`: one row in, one row out, with its rewards."""

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from outweigh.data.files import RawRow, raw_rows
from outweigh.data.pairs import Data
from outweigh.data.records import Text
from outweigh.data.rows import row_candidates, row_ranking
from outweigh.data.writing import write_rows
from outweigh.errors import DataError
from outweigh.models.reward import RewardModel

CHUNK = 2048  # rows scored at once; their texts are sorted by length


def score(model: str | Path | RewardModel, data: Data, *, out: str | Path) -> int:
    """The number of rows written: each row of the data, in order, with the rewards of its texts added.

    A pair gets `reward_chosen`, `reward_rejected` and `gap`; a row of K `responses` gets `rewards`, in their
    order, labelled or not; a row whose chosen and rejected are lists gets a list for each.

    Raises:
        DataError: a row is not what it should be, or the file can't be written.
        ModelError: the model can't be loaded.
    """
    loaded = model if isinstance(model, RewardModel) else RewardModel.load(model)
    return write_rows(out, _scored(loaded, raw_rows(data)))


def _scored(model: RewardModel, rows: Iterator[RawRow]) -> Iterator[dict[str, Any]]:
    while chunk := list(islice(rows, CHUNK)):
        texts = [_texts(raw) for raw in chunk]
        rewards = iter(model.score_texts([text for each in texts for text in each]).tolist())
        for raw, each in zip(chunk, texts, strict=True):
            assert raw.values is not None  # _texts has refused what could not be read
            yield raw.values | _named_rewards(raw.values, [next(rewards) for _ in each])


def _texts(raw: RawRow) -> list[tuple[Text, Text]]:
    """Each (prompt, response) of a row, in the row's order."""
    if raw.values is None:
        raise DataError(f"{raw.origin}: {raw.problem}")
    parse = row_candidates if "responses" in raw.values else row_ranking
    try:
        found = parse(raw.values, raw.row, raw.origin)
    except DataError as error:
        raise DataError(f"{raw.origin}: {error}") from None
    return [(found.prompt, response) for response in found.responses]


def _named_rewards(row: dict[str, Any], rewards: list[float]) -> dict[str, Any]:
    if "responses" in row:
        return {"rewards": rewards}
    if len(rewards) == 2:
        chosen, rejected = rewards
        return {"reward_chosen": chosen, "reward_rejected": rejected, "gap": chosen - rejected}
    first = len(row["chosen"])
    return {"rewards_chosen": rewards[:first], "rewards_rejected": rewards[first:]}
