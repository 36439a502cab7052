"""How well a score finds the wrong labels, where it is known which are wrong (planted flips)."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score, roc_auc_score

from outweigh.metrics.arrays import FloatArray, check_pairs


@dataclass(frozen=True, slots=True)
class Flagged:
    """What a threshold finds. Precision is None where nothing is flagged, recall where nothing is wrong."""

    precision: float | None
    recall: float | None
    flagged: int
    found: int  # flagged and wrong
    wrong: int


def auroc(score: FloatArray, wrong: NDArray[np.bool_]) -> float | None:
    """Probability that a wrong label has a higher score than a right one; ties count half.

    0.5 for a score that knows nothing; None where all labels are right or all wrong.
    """
    check_pairs(score=score, wrong=wrong)
    if np.ptp(wrong.astype(np.int8)) == 0:
        return None
    return float(roc_auc_score(wrong, score))


def average_precision(score: FloatArray, wrong: NDArray[np.bool_]) -> float | None:
    """Precision averaged over the wrong labels as the threshold falls; None where no label is wrong.

    A score that knows nothing has the share of wrong labels.
    """
    check_pairs(score=score, wrong=wrong)
    return float(average_precision_score(wrong, score)) if wrong.any() else None


def precision_recall(score: FloatArray, wrong: NDArray[np.bool_], threshold: float) -> Flagged:
    """Precision and recall of calling every label wrong whose score is at or above the threshold."""
    check_pairs(score=score, wrong=wrong)
    flags = score >= threshold
    flagged, found, total = int(flags.sum()), int((flags & wrong.astype(bool)).sum()), int(wrong.sum())
    return Flagged(
        precision=found / flagged if flagged else None,
        recall=found / total if total else None,
        flagged=flagged,
        found=found,
        wrong=total,
    )
