"""Items that fill up the last step of an epoch on several devices: they take part, and count for nothing."""

import numpy as np
import torch
from accelerate import Accelerator
from numpy.typing import NDArray
from torch import Tensor

from outweigh.training.collate import Batch, counted


def mark_repeats(accelerator: Accelerator, batch: Batch) -> None:
    """Nothing; in the last batch of an epoch the items are `counted` no more that stand there again.

    accelerate fills that step up from the epoch's beginning, so that each device has as many items: without
    it devices would wait for each other for ever.
    """
    state, counted_B = accelerator.gradient_state, batch["counted"]
    if accelerator.num_processes > 1 and state.end_of_dataloader and state.remainder > 0:
        first = accelerator.process_index * len(counted_B)
        batch["counted"] = np.arange(first, first + len(counted_B)) < state.remainder


def counted_rows(accelerator: Accelerator, rows: Tensor, counted_N: NDArray[np.bool_]) -> Tensor:
    """The rows of all devices that count, one device's after the other's; of each (N, ...)."""
    if accelerator.num_processes == 1:
        return counted(rows, counted_N)
    counted_everywhere = accelerator.gather(torch.from_numpy(counted_N).to(rows.device).long())
    return accelerator.gather(rows)[counted_everywhere.bool()]  # type: ignore[no-any-return]


def counted_before(accelerator: Accelerator, counted_N: NDArray[np.bool_]) -> int:
    """How many count on the devices before this one."""
    if accelerator.num_processes == 1:
        return 0
    own = torch.tensor([counted_N.sum()], device=accelerator.device)
    return int(accelerator.gather(own)[: accelerator.process_index].sum())
