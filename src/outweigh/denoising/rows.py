"""The row that is written for each pair after its repair."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from outweigh.data.writing import swap_row
from outweigh.denoising.policies import Repair

WRITTEN = ("margin", "flip_rate", "weight", "strength", "spread", "wrong_probability")
"""Columns that every row has after a repair."""


@dataclass(slots=True)
class RowCounts:
    """What happened to the rows written, and to values that users had put there."""

    actions: dict[str, int] = field(default_factory=dict)
    margins_zeroed: int = 0  # of flipped rows: a margin is no statement on the other label
    margins_negated: int = 0
    flip_rates_zeroed: int = 0  # of flipped rows, where the policy decides on no flip rate


def repaired_row(
    row: Mapping[str, Any],
    repair: Repair,
    place: int,
    *,
    row_number: int,
    counts: RowCounts,
    margin_is_signed: bool = False,
) -> dict[str, Any] | None:
    """The row of the pair at `place` after its repair, or None where it is dropped; `counts` grows.

    Every column of the row stays, swapped where the pair is flipped. margin, flip_rate and weight are floats
    on every row: the policy's where it decides on them, else the user's, else 0, 0 and 1; for a pair of a
    row of K responses the weight is then 1 / row_pairs, as in training. On a flipped row the user's margin is
    negated if it is signed (a gap that may be negative), else 0; the flip rate, 0.

    Raises:
        DataError: a column such as `votes_chosen` has no counterpart to swap with.
    """
    action = str(repair.action[place])
    counts.actions[action] = counts.actions.get(action, 0) + 1
    if repair.drop[place]:
        return None
    flipped = bool(repair.flip[place])
    result = swap_row(row) if flipped else dict(row)
    defaults = {"margin": 0.0, "flip_rate": 0.0, "weight": 1 / max(row.get("row_pairs", 1), 1)}
    for name, default in defaults.items():
        result[name] = float(result.get(name, default))
    if flipped:
        _turn_users_values(result, row, repair, counts, margin_is_signed)
    for name in repair.sets:
        result[name] = float(getattr(repair, name)[place])
    for name in ("strength", "spread", "wrong_probability"):
        result[name] = float(getattr(repair, name)[place])
    result["action"] = action
    result["row"] = row_number
    return result


def _turn_users_values(
    result: dict[str, Any],
    row: Mapping[str, Any],
    repair: Repair,
    counts: RowCounts,
    margin_is_signed: bool,
) -> None:
    if "margin" not in repair.sets and row.get("margin"):
        result["margin"] = -float(row["margin"]) if margin_is_signed else 0.0
        counts.margins_negated += margin_is_signed
        counts.margins_zeroed += not margin_is_signed
    if "flip_rate" not in repair.sets and row.get("flip_rate"):
        result["flip_rate"] = 0.0
        counts.flip_rates_zeroed += 1
