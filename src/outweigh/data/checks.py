"""What is wrong or telling about some pairs before anything is trained on them, each with its count."""

from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from outweigh.data.arrow import text_key
from outweigh.data.pairs import PairSet
from outweigh.data.records import plain

_EXAMPLES = 5
_EXAMPLE_CHARACTERS = 200


@dataclass(frozen=True, kw_only=True, slots=True)
class DataChecks:
    """Counts of what was dropped on reading, and of what was kept and is worth knowing."""

    rows: int
    """Rows read, bad ones included."""
    pairs: int
    """Pairs kept."""
    bad_rows: int
    """Rows skipped because they are not what they should be."""
    tied: int
    """Pairs dropped: two of K responses have one rank."""
    empty: int
    """Pairs dropped: a response has no text."""
    identical: int
    """Pairs dropped: both responses are the same text."""
    duplicate: int
    """Pairs kept that repeat an earlier one: same prompt, chosen and rejected."""
    contradictory: int
    """Pairs kept whose two responses stand elsewhere, under the same prompt, with the other label."""
    longer_chosen: float
    """Share of pairs whose chosen response has more characters; equal lengths count half."""
    mean_chosen_characters: float
    """Mean length of a chosen response."""
    mean_rejected_characters: float
    """Mean length of a rejected response."""
    prompts: int
    """Distinct prompts; the absence of one counts as one."""
    texts: int
    """Distinct responses, prompts aside."""
    shared_prompts: int = 0
    """Distinct prompts that stand both in training and evaluation."""
    eval_pairs_shared: int = 0
    """Pairs of the evaluation whose prompt is also trained on."""
    shared_examples: list[str] = field(default_factory=list)
    """The beginnings of up to 5 shared prompts."""
    unread_columns: dict[str, str] = field(default_factory=dict)
    """Columns that nothing reads, each with the column it may misspell, or ''."""

    @property
    def dropped(self) -> int:
        """Pairs dropped on reading; rows skipped as bad come on top."""
        return self.tied + self.empty + self.identical

    def to_dict(self) -> dict[str, Any]:
        """All counts by name."""
        return {**asdict(self), "dropped": self.dropped}


def check_pairs_data(pairs: PairSet, eval_pairs: PairSet | None = None) -> DataChecks:
    """The checks of some pairs; with `eval_pairs` also which prompts both have.

    Works on the hashes and lengths that reading has stored, some tens of bytes a pair. What was dropped is of
    the data as read, also where `pairs` is a selection of it.
    """
    prompt_id, chosen_id, rejected_id = pairs.text_ids()
    chosen_characters, rejected_characters = pairs.characters()
    counts, longer = pairs.counts, np.sign(chosen_characters - rejected_characters)
    return DataChecks(
        rows=counts.rows,
        pairs=len(pairs),
        bad_rows=counts.bad_rows,
        tied=counts.tied,
        empty=counts.empty,
        identical=counts.identical,
        duplicate=len(pairs) - _distinct(prompt_id, chosen_id, rejected_id),
        contradictory=_contradictory(prompt_id, chosen_id, rejected_id),
        longer_chosen=float((longer.mean() + 1) / 2),
        mean_chosen_characters=float(chosen_characters.mean()),
        mean_rejected_characters=float(rejected_characters.mean()),
        prompts=_distinct(prompt_id),
        texts=_distinct(np.concatenate([chosen_id, rejected_id])),
        unread_columns=pairs.unread_columns,
        **(_shared(pairs, eval_pairs) if eval_pairs is not None else {}),
    )


def joint_ids(*ids: NDArray[np.int64]) -> NDArray[np.int64]:
    """One number, from 0, for each distinct combination of the ids (B,), none of them negative."""
    joint = ids[0]
    for each in ids[1:]:
        # Renumbered at each step, both factors stay under B, and their product far under 2 ** 63.
        _, joint = np.unique(joint * (int(each.max(initial=0)) + 1) + each, return_inverse=True)
    return joint


def _distinct(*ids: NDArray[np.int64]) -> int:
    return len(np.unique(joint_ids(*ids)))


def _contradictory(
    prompt_id: NDArray[np.int64], chosen_id: NDArray[np.int64], rejected_id: NDArray[np.int64]
) -> int:
    low, high = np.minimum(chosen_id, rejected_id), np.maximum(chosen_id, rejected_id)
    group = joint_ids(prompt_id, low, high)
    first_is_low = chosen_id == low
    groups = int(group.max(initial=-1)) + 1
    with_low = np.bincount(group[first_is_low], minlength=groups) > 0
    with_high = np.bincount(group[~first_is_low], minlength=groups) > 0
    return int((with_low & with_high)[group].sum())


def _shared(pairs: PairSet, eval_pairs: PairSet) -> dict[str, Any]:
    train, held_out = pairs.text_keys()[0], eval_pairs.text_keys()[0]
    shared = np.setdiff1d(np.intersect1d(train, held_out), [text_key(())])  # no prompt at all is not shared
    hits = np.isin(held_out, shared)
    _, first = np.unique(held_out[hits], return_index=True)
    places = np.sort(np.flatnonzero(hits)[first])[:_EXAMPLES]
    examples = [plain(eval_pairs[int(place)].prompt)[:_EXAMPLE_CHARACTERS] for place in places]
    return {"shared_prompts": len(shared), "eval_pairs_shared": int(hits.sum()), "shared_examples": examples}
