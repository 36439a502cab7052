"""The pairs that a cell of a study trains on, and those that it is judged on."""

import json
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from outweigh.auditing.trust import planted_flips
from outweigh.data.files import content_hash, raw_rows
from outweigh.data.pairs import PairSet, read_pairs
from outweigh.data.split import hold_out
from outweigh.data.writing import swap_row, write_rows
from outweigh.errors import DataError
from outweigh.steps.denoise import denoise
from outweigh.steps.record import AUDIT, STRENGTH, write_json
from outweigh.study.config import Cell, Changes

HELD_OUT = 0.25
"""Share of the training file's prompts that are held out where there is no eval file."""
PLANTED_SEED = 1000  # added to a cell's seed, so that flips and training don't draw the same numbers
CHANGED = "changed.jsonl"
OF_AUDIT = ("strength", "spread", "wrong_probability")


def held_out_pairs(files: Mapping[str, str]) -> PairSet:
    """The pairs that all cells of a data set are judged on."""
    pairs = read_pairs(files.get("eval", files["train"]))
    return pairs if "eval" in files else pairs.select(hold_out(pairs, HELD_OUT, 0, "prompt").eval)


def write_pairs(files: Mapping[str, str], cell: Cell, path: Path) -> list[bool]:
    """The cell's share of the pairs goes to `path`, some labels turned round; which ones, row by row.

    Raises:
        DataError: a row is no pair.
    """
    pairs = check_rows(files["train"])
    rows = [raw.values for raw in raw_rows(files["train"]) if raw.values is not None]
    if "eval" not in files:
        rows = [rows[row] for row in pairs.rows[hold_out(pairs, HELD_OUT, 0, "prompt").train]]
    rng = np.random.default_rng(cell.seed)
    drawn = np.sort(rng.permutation(len(rows))[: max(1, round(cell.fraction * len(rows)))])
    turned = planted_flips(len(drawn), PLANTED_SEED + cell.seed, cell.planted)
    write_rows(
        path,
        (swap_row(rows[place]) if turn else rows[place] for place, turn in zip(drawn, turned, strict=True)),
    )
    return [bool(each) for each in turned]


def check_rows(train: str) -> PairSet:
    """The pairs of the file, of which each row is one.

    Raises:
        DataError: a row has no chosen and rejected, or gives several pairs, all of which a flip would turn.
    """
    for number, raw in enumerate(raw_rows(train), 1):
        if raw.values is not None and not {"chosen", "rejected"} <= set(raw.values):
            raise DataError(f"{train}:{number}: want chosen and rejected. Make pairs of it first.")
    pairs = read_pairs(train)
    several = np.flatnonzero(np.bincount(pairs.rows) > 1)
    if len(several):
        raise DataError(
            f"{train}:{several[0] + 1}: gives several pairs, want one a row. Make pairs of it first."
        )
    return pairs


def change_pairs(audited: Mapping[str, Any], changes: Changes, seed: int, work: Path) -> dict[str, int]:
    """How many pairs had what done to them; they go to `CHANGED` in the work folder."""
    folder: Path = _shuffled(audited["folder"], seed, work) if changes.shuffled else audited["folder"]
    repaired = work / "repaired.jsonl"
    done = denoise(audited["pairs"], audit=folder, out=repaired, policy=changes.repair or "keep")
    rows = (raw.values for raw in raw_rows(repaired) if raw.values is not None)
    write_rows(work / CHANGED, rows if changes.only is None else _between(list(rows), changes))
    actions: dict[str, int] = done["actions"]
    return actions


def _between(rows: list[dict[str, Any]], changes: Changes) -> Iterator[dict[str, Any]]:
    """The rows whose rank by strength is between the shares, in their order."""
    low, high = (round(share * len(rows)) for share in changes.only or (0.0, 1.0))
    order = np.argsort([row["strength"] for row in rows], kind="stable")
    for place in np.sort(order[low:high]).tolist():
        yield _turned(rows[place]) if changes.flipped else rows[place]


def _turned(row: dict[str, Any]) -> dict[str, Any]:
    """The row with the other label, and what the audit would say of that."""
    other = {"strength": -row["strength"], "wrong_probability": 1 - row["wrong_probability"], "margin": 0.0}
    return swap_row(row) | other


def _shuffled(folder: Path, seed: int, work: Path) -> Path:
    """The audit, the values of each pair now another one's."""
    copy = work / "shuffled"
    shutil.copytree(folder, copy)
    table = pq.read_table(folder / STRENGTH)
    order = pa.array(np.random.default_rng(seed).permutation(len(table)))
    for name in OF_AUDIT:
        table = table.set_column(table.column_names.index(name), name, table.column(name).take(order))
    pq.write_table(table, copy / STRENGTH)
    about = json.loads((copy / AUDIT).read_text(encoding="utf-8"))
    write_json(copy / AUDIT, about | {"strength_sha256": content_hash(copy / STRENGTH)})
    return copy
