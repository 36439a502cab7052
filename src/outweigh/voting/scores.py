"""Votes of models that were trained elsewhere, from the scores that they gave."""

from collections.abc import Sequence

import numpy as np

from outweigh.errors import DataError
from outweigh.voting.votes import FloatArray, Votes


def votes_from_scores(
    chosen_scores: Sequence[Sequence[float]], rejected_scores: Sequence[Sequence[float]]
) -> Votes:
    """Votes of M models from two columns that hold a list of M scores a pair.

    The models are taken not to have seen the pairs' labels.

    Raises:
        DataError: no pairs, lists that are not all of one length, or a score that is no finite number.
    """
    if len(chosen_scores) != len(rejected_scores) or not len(chosen_scores):
        raise DataError(
            f"score lists: got {len(chosen_scores)} chosen and {len(rejected_scores)} rejected, "
            "want one of each a pair."
        )
    voters = len(chosen_scores[0])
    gap_MB = np.empty((voters, len(chosen_scores)))
    for row, (chosen, rejected) in enumerate(zip(chosen_scores, rejected_scores, strict=True)):
        if not len(chosen) == len(rejected) == voters > 0:
            raise DataError(
                f"score lists of pair {row}: got {len(chosen)} chosen and {len(rejected)} rejected scores, "
                f"want {voters} each, as in pair 0. Leave out models that did not score every pair."
            )
        try:
            gap_MB[:, row] = np.subtract(np.asarray(chosen, float), np.asarray(rejected, float))
        except (TypeError, ValueError):
            raise DataError(
                f"score lists of pair {row}: got {list(chosen)} and {list(rejected)}, want numbers."
            ) from None
    return voters_votes(gap_MB)


def voters_votes(gap_MB: FloatArray) -> Votes:
    """Votes of models that have not seen the pairs, from their gaps."""
    return Votes(gap_MB, unseen_MB=np.ones(gap_MB.shape, dtype=bool))
