"""Of a table of token embeddings the rows that the data uses: only they are trained."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import datasets
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

MOST_USED = 0.5
"""Share of a table's rows; where the data uses more of them, leaving the others out saves little."""


def tokens_used(examples: datasets.Dataset) -> NDArray[np.int64]:
    """The tokens, ascending, in the `response_ids` of these examples; and maybe others, in what the examples
    were selected from."""
    marks = np.zeros(1, dtype=bool)
    for chunk in examples.data.column("response_ids").chunks:
        ids = chunk.flatten().flatten().to_numpy()
        if len(ids) and ids.max() >= len(marks):
            marks = np.append(marks, np.zeros(ids.max() + 1 - len(marks), dtype=bool))
        marks[ids] = True
    return np.flatnonzero(marks)


@contextmanager
def training_rows(model: Any, examples: Sequence[datasets.Dataset]) -> Iterator[None]:
    """A block in which the model trains of its table the rows of these examples' tokens alone, and takes no
    other tokens.

    Of the others the gradient is zero, and in a table of 30,000 rows or 250,000 they are nearly all: to fill,
    sum, clip and step through zeros is a quarter of MiniLM's training step and an eighth of SmolLM2's
    (bench/vocabulary.py). They stay as they are, where weight decay would have shrunk them. Does nothing
    where the table is no plain one, is used elsewhere, too, or is not trained, and where no examples say what
    will be read.
    """
    table = model.get_input_embeddings()
    if not examples or not _stands_alone(model, table):
        yield
        return
    used = np.unique(np.concatenate([tokens_used(each) for each in examples]))
    if len(used) > MOST_USED * table.num_embeddings:
        yield
        return
    if table.padding_idx is not None:
        used = np.union1d(used, [table.padding_idx])
    rows = UsedRows(table, torch.from_numpy(used))
    model.set_input_embeddings(rows)
    try:
        yield
    finally:
        table.to(rows.weight.device)  # a Trainer may move the model after it was given it
        with torch.no_grad():
            table.weight.copy_(rows.whole())
        model.set_input_embeddings(table)


def _stands_alone(model: nn.Module, table: nn.Module) -> bool:
    """True for a plain table that is trained, and that the model uses in one place."""
    if type(table) is not nn.Embedding or not table.weight.requires_grad:
        return False
    uses = [weight for _, weight in model.named_parameters(remove_duplicate=False) if weight is table.weight]
    return len(uses) == 1


class UsedRows(nn.Module):
    """Gives what a table of V embeddings gives, but knows U tokens only, and has their rows as its weight.

    Saved and loaded it is the whole table. A token that it does not know raises an IndexError on a CPU.
    """

    table_VH: Tensor
    used_U: Tensor
    place_V: Tensor

    def __init__(self, table: nn.Embedding, used_U: Tensor) -> None:
        super().__init__()
        used_U = used_U.to(table.weight.device)
        place_V = used_U.new_full((table.num_embeddings,), len(used_U))  # none: past the last row
        place_V[used_U] = torch.arange(len(used_U), device=used_U.device)
        self.padding_idx = None if table.padding_idx is None else int(place_V[table.padding_idx])
        self.weight = nn.Parameter(table.weight.detach()[used_U])
        self.register_buffer("table_VH", table.weight.detach(), persistent=False)
        self.register_buffer("used_U", used_U, persistent=False)
        self.register_buffer("place_V", place_V, persistent=False)

    def forward(self, ids: Tensor) -> Tensor:
        """The embeddings (..., H) of tokens (...)."""
        return F.embedding(self.place_V[ids], self.weight, self.padding_idx)

    def whole(self) -> Tensor:
        """The table (V, H) with the rows as they are now."""
        return self.table_VH.index_copy(0, self.used_U, self.weight.detach())

    def _save_to_state_dict(self, destination: dict[str, Any], prefix: str, keep_vars: bool) -> None:
        destination[f"{prefix}weight"] = self.whole()

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        name = f"{prefix}weight"
        if name in state_dict:
            self.table_VH.copy_(state_dict[name])
            state_dict = {**state_dict, name: self.table_VH[self.used_U]}
        super()._load_from_state_dict(state_dict, prefix, *args)
