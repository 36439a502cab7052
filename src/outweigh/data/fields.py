"""The columns that a row may have: their names, their aliases, and what their values must be."""

import difflib
import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from numbers import Real
from typing import Any

from outweigh.errors import DataError

Value = float | str | list[float]


def shown(value: object) -> str:
    """The value as an error shows it, cut to what fits on a line."""
    text = "null" if value is None else repr(value[:80] if isinstance(value, str) else value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def near(name: str, known: Iterable[str]) -> str:
    """The known name that `name` most likely misspells, or an empty string."""
    by_lower = {column.lower().strip(): column for column in known}
    found = difflib.get_close_matches(name.lower().strip(), by_lower, n=1, cutoff=0.8)
    return by_lower[found[0]] if found else ""


def number(value: object, name: str) -> float:
    """The value as a finite float.

    Raises:
        DataError: it is null, no number, NaN or infinite.
    """
    if type(value) is float or (isinstance(value, Real) and not isinstance(value, bool)):
        try:
            found = float(value)
        except OverflowError:
            found = math.inf
        if math.isfinite(found):
            return found
        what = "NaN" if found != found else "infinite"
        raise DataError(f"'{name}' is {what}, want a finite number. Write the true value or drop the row.")
    if value is None:
        raise DataError(
            f"'{name}' is null, want a number on every row. Write the value, or drop the column or the row."
        )
    raise DataError(
        f"'{name}' is {shown(value)} ({type(value).__name__}), want a number. Write it without quotes."
    )


def _not_negative(value: object, name: str) -> float:
    if (found := number(value, name)) < 0:
        raise DataError(f"'{name}' is negative, got {found:g}, want 0 or more. Correct the row.")
    return found


def _positive(value: object, name: str) -> float:
    if (found := number(value, name)) <= 0:
        raise DataError(f"'{name}' is not above 0, got {found:g}, want more than 0. Correct the row.")
    return found


def _flip_rate(value: object, name: str) -> float:
    found = number(value, name)
    if not 0 <= found < 0.5:
        raise DataError(
            f"'{name}' is out of range, got {found:g}, want 0 <= {name} < 0.5. "
            "From 0.5 on the label is more likely wrong: swap chosen and rejected, and write 1 - the rate."
        )
    return found


def numbers(value: object, name: str) -> list[float]:
    """The value as a list of at least one finite float."""
    if not isinstance(value, (list, tuple)) or not value:
        raise DataError(f"'{name}' is {shown(value)}, want a list of numbers. Write at least one.")
    return [number(each, f"{name}[{index}]") for index, each in enumerate(value)]


def string(value: object, name: str) -> str:
    """The value, if it is a string that UTF-8 can hold."""
    if not isinstance(value, str):
        raise DataError(
            f"'{name}' is {shown(value)} ({type(value).__name__}), want a string. Correct the row."
        )
    check_unicode(value, name)
    return value


def check_unicode(text: str, name: str) -> None:
    """Refuses half of a surrogate pair (JSON's lone \\ud83d), which no tokenizer can encode."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise DataError(
            f"'{name}' is not Unicode text: a lone surrogate {shown(text[error.start])} at character "
            f"{error.start}, want whole characters. Write the file anew from its source as UTF-8."
        ) from None


Check = Callable[[object, str], Value]

OPTIONAL: dict[str, Check] = {
    "margin": number,
    "flip_rate": _flip_rate,
    "cap": _positive,
    "weight": _not_negative,
    "votes_chosen": _not_negative,
    "votes_rejected": _not_negative,
    "votes_equal": _not_negative,
    "rating_chosen": number,
    "rating_rejected": number,
    "source": string,
    "chosen_scores": numbers,
    "rejected_scores": numbers,
    "features_chosen": numbers,
    "features_rejected": numbers,
    "mean_difference": number,
    "std_difference": _not_negative,
    "gpt4_label": number,
    "chosen_index": _not_negative,
    "rejected_index": _not_negative,
    "row_pairs": _not_negative,
}

FROM_DENOISE = ("strength", "spread", "wrong_probability")

# The column names of the strength-annotated HH data that Wang et al. (arXiv 2401.06080) released.
RELEASED = {
    "mean preference difference": "mean_difference",
    "std preference difference": "std_difference",
    "chosen score list": "chosen_scores",
    "rejected score list": "rejected_scores",
    "GPT4 label": "gpt4_label",
}
# How UltraFeedback's binarised forms and their kin call the ratings.
RATED = {
    name.format(side): f"rating_{side}"
    for name in ("score_{}", "{}_score", "{}_rating", "{}-rating")
    for side in ("chosen", "rejected")
}
NAMES = RELEASED | RATED
"""Optional columns by the names that others gave them."""
PROMPT_ALIASES = ("question", "input")
SHAPE_COLUMNS = ("prompt", "chosen", "rejected", "responses", "ranks", "ratings", "gold")
# A CSV cell is a string: in these columns it is read as a number, in those as JSON.
_CSV_NUMBERS = frozenset(name for name, check in OPTIONAL.items() if check not in (string, numbers))
_CSV_LISTS = frozenset(
    {"responses", "ranks", "ratings", "gold", "chosen_scores", "rejected_scores"}
    | {"features_chosen", "features_rejected"}
    | {name for name in RELEASED if name.endswith("list")}
)


def optional_columns(row: Mapping[str, Any], keep: Sequence[str]) -> dict[str, Value]:
    """The optional columns of a row by canonical name, each checked, and those that `keep` names.

    Raises:
        DataError: a value is not what its column holds, or a kept column is not there.
    """
    found: dict[str, Value] = {}
    for name in row:
        canonical = NAMES.get(name, name)
        if name in RATED and (canonical in row or not _is_number(row[name])):
            continue  # ours has the word; and what is no number is no rating, whatever its name
        if (check := OPTIONAL.get(canonical)) is not None:
            found[canonical] = check(row[name], name)
    for name in keep:
        if name not in found:
            found[name] = _kept(row, name)
    if ("chosen_scores" in found) != ("rejected_scores" in found):
        there, missing = ("chosen", "rejected") if "chosen_scores" in found else ("rejected", "chosen")
        raise DataError(f"scores for {there} but none for {missing}, want both. Add them or drop the column.")
    if len(numbers_of(found, "chosen_scores")) != len(numbers_of(found, "rejected_scores")):
        got = f"{len(numbers_of(found, 'chosen_scores'))} and {len(numbers_of(found, 'rejected_scores'))}"
        raise DataError(f"score lists of chosen and rejected: got {got} scores, want one a voter in both.")
    return found


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def numbers_of(columns: Mapping[str, Value], name: str) -> list[float]:
    """The list in a column, empty where there is none."""
    value = columns.get(name, [])
    return value if isinstance(value, list) else []


def _kept(row: Mapping[str, Any], name: str) -> Value:
    if name not in row:
        misspelt = near(name, row)
        hint = f"Did you mean '{misspelt}'?" if misspelt else "Keep a column that is there."
        if name in FROM_DENOISE:
            hint = "It comes with: outweigh denoise DATA --audit DIR --out FILE"
        raise DataError(f"no column '{name}', got {', '.join(map(str, row))}. {hint}")
    value = row[name]
    if isinstance(value, str):
        return string(value, name)
    if isinstance(value, bool):
        return float(value)
    return numbers(value, name) if isinstance(value, (list, tuple)) else number(value, name)


def typed_cells(cells: Mapping[str, str]) -> dict[str, Any]:
    """A CSV row with its numbers and lists read; what is neither stays as it is, to be refused."""
    row: dict[str, Any] = dict(cells)
    for name, cell in cells.items():
        if NAMES.get(name, name) in _CSV_NUMBERS:
            try:
                row[name] = float(cell)
            except ValueError:
                row[name] = cell or None
        elif name in _CSV_LISTS:
            try:
                row[name] = json.loads(cell)
            except ValueError:
                row[name] = cell or None
    return row
