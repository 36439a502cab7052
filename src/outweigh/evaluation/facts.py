"""What an evaluation needs to know of the pairs, besides a model's rewards."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from outweigh.errors import ConfigError
from outweigh.metrics.arrays import FloatArray, IntArray, check_pairs
from outweigh.metrics.intervals import Unit, choose_unit

if TYPE_CHECKING:  # the type alone is needed, and behind it stands `datasets`, seconds to import
    from outweigh.data.pairs import PairSet


@dataclass(frozen=True, slots=True)
class PairFacts:
    """One value a pair in every column, all (B,).

    `grades` are graded preferences by name, positive where the chosen response is the better one, NaN where
    a pair has none.
    """

    prompt_ids: IntArray
    chosen_characters: FloatArray
    rejected_characters: FloatArray
    source: NDArray[Any] | None = None  # strings
    grades: Mapping[str, FloatArray] = field(default_factory=dict)
    pair_ids: IntArray | None = None  # equal ones are copies of one pair

    def __post_init__(self) -> None:
        check_pairs(
            prompt_ids=self.prompt_ids,
            chosen_characters=self.chosen_characters,
            rejected_characters=self.rejected_characters,
            # Sources are names and grades may be NaN: of these only the shape can be checked.
            **({} if self.source is None else {"source": np.zeros(self.source.shape)}),
            **({} if self.pair_ids is None else {"pair_ids": self.pair_ids}),
            **{name: np.zeros(grade.shape) for name, grade in self.grades.items()},
        )

    def unit(self, here: NDArray[Any] | slice = slice(None)) -> Unit:
        """What is resampled of the pairs at these places, or marked so."""
        return choose_unit(self.prompt_ids[here], None if self.pair_ids is None else self.pair_ids[here])

    @property
    def longer_by(self) -> FloatArray:
        """Characters by which the chosen response is the longer one; (B,)."""
        return self.chosen_characters - self.rejected_characters

    @classmethod
    def of(cls, pairs: "PairSet", grade: str | None = None) -> "PairFacts":
        """The facts of `pairs`; `grade` names a column of graded preference besides votes and ratings.

            votes    (votes_chosen - votes_rejected) / (votes_chosen + votes_rejected + votes_equal)
            ratings  rating_chosen - rating_rejected

        Raises:
            ConfigError: `grade` names no column of numbers.
        """
        grades = {"votes": _vote_share(pairs), "ratings": _rating_difference(pairs)}
        if grade is not None:
            grades[grade] = grade_of(pairs, grade)
        from outweigh.data.split import group_ids  # behind it stands `datasets`

        chosen, rejected = pairs.characters()
        return cls(
            prompt_ids=pairs.text_ids()[0],
            chosen_characters=chosen.astype(np.float64),
            rejected_characters=rejected.astype(np.float64),
            source=pairs.column("source"),
            grades={name: values for name, values in grades.items() if values is not None},
            pair_ids=group_ids(pairs, "pair"),
        )


def _vote_share(pairs: "PairSet") -> FloatArray | None:
    chosen, rejected = pairs.column("votes_chosen"), pairs.column("votes_rejected")
    if chosen is None or rejected is None:
        return None
    equal = pairs.column("votes_equal")
    total = chosen + rejected + (0.0 if equal is None else equal)
    share: FloatArray = np.divide(chosen - rejected, total, out=np.full(len(total), np.nan), where=total > 0)
    return share


def _rating_difference(pairs: "PairSet") -> FloatArray | None:
    chosen, rejected = pairs.column("rating_chosen"), pairs.column("rating_rejected")
    if chosen is None or rejected is None:
        return None
    difference: FloatArray = chosen - rejected
    return difference


def grade_of(pairs: "PairSet", name: str) -> FloatArray:
    """The column of that name, (B,).

    Raises:
        ConfigError: there is none, or it holds no numbers.
    """
    values = pairs.column(name)
    if values is None or values.dtype != np.float64:
        problem = "there is no such column" if values is None else "the column holds no numbers"
        raise ConfigError(
            f"grade {name!r}: {problem}, got {', '.join(pairs.columns) or 'no optional column'}, want a "
            "column of one number a pair. Name it in `keep` where the pairs are read."
        )
    numbers: FloatArray = values
    return numbers
