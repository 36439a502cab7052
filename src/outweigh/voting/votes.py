"""What an ensemble says of each pair."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from outweigh.errors import DataError, ShapeError

FloatArray = NDArray[np.floating]


@dataclass(frozen=True, slots=True, eq=False)
class Votes:
    """Gaps of M voters on B pairs, in nats, and which of them had not been trained on the pair.

    Raises:
        ShapeError: the arrays do not fit each other.
        DataError: a gap is not finite.
    """

    gap_MB: FloatArray
    unseen_MB: NDArray[np.bool_]  # True where the voter was not trained on the pair's label
    epoch_gap_EB: FloatArray | None = None  # mean gap over voters after each epoch; None: voters came trained
    witness_B: FloatArray | None = None  # strength by others, that had not seen the label; None: no others
    models: tuple[str, ...] = ()  # where the reward models lie that voted, if they are kept

    def __post_init__(self) -> None:
        shape = self.gap_MB.shape
        if self.gap_MB.ndim != 2 or shape[0] == 0 or self.unseen_MB.shape != shape:
            raise ShapeError(
                f"votes: got gaps {shape} and unseen {self.unseen_MB.shape}, want both (M, B) with M >= 1."
            )
        if self.epoch_gap_EB is not None and self.epoch_gap_EB.shape[1:] != shape[1:]:
            raise ShapeError(f"votes: got epoch gaps {self.epoch_gap_EB.shape}, want (E, {shape[1]}).")
        if self.witness_B is not None and self.witness_B.shape != shape[1:]:
            raise ShapeError(f"votes: got a witness {self.witness_B.shape}, want {shape[1:]}.")
        if not np.isfinite(self.gap_MB).all():
            voter, pair = np.argwhere(~np.isfinite(self.gap_MB))[0]
            raise DataError(
                f"votes: voter {voter} on pair {pair}: gap is {self.gap_MB[voter, pair]}, "
                "want a finite number. Check the voter's scores, or lower learning_rate."
            )


def held_out_strength(votes: Votes) -> NDArray[np.float64]:
    """The witness (B,); without one, the mean gap over voters that had not seen the label, else over all."""
    if votes.witness_B is not None:
        return np.asarray(votes.witness_B, np.float64)
    count_B = votes.unseen_MB.sum(axis=0)
    total_B = np.where(votes.unseen_MB, votes.gap_MB, 0).sum(axis=0, dtype=np.float64)
    every_B = votes.gap_MB.mean(axis=0, dtype=np.float64)
    return np.asarray(np.where(count_B > 0, total_B / np.maximum(count_B, 1), every_B))


def joined(votes: Votes, heads: Votes) -> Votes:
    """The votes of M models, and M more rows: each the mean over a part of the heads, at the models' scale.

    So both kinds weigh as much, however many heads there are. Heads are taken to have seen the labels.
    """
    gap_MB = np.stack([part.mean(axis=0) for part in np.array_split(heads.gap_MB, len(votes.gap_MB))])
    scale = votes.gap_MB.mean(axis=0).std() / max(gap_MB.mean(axis=0).std(), 1e-12)
    both = np.concatenate([votes.gap_MB, scale * gap_MB])
    return replace(votes, gap_MB=both, unseen_MB=np.zeros(both.shape, dtype=bool))
