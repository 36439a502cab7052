"""Items that fill up the last step of an epoch on several devices: they take part, and count for nothing."""

import torch
from accelerate import Accelerator
from torch import Tensor


def mark_repeats(accelerator: Accelerator, batch: dict[str, Tensor]) -> None:
    """Nothing; in the last batch of an epoch the items are `counted` no more that stand there again.

    accelerate fills that step up from the epoch's beginning, so that each device has as many items: without
    it devices would wait for each other for ever.
    """
    state, counted_B = accelerator.gradient_state, batch["counted"]
    if accelerator.num_processes > 1 and state.end_of_dataloader and state.remainder > 0:
        first = accelerator.process_index * len(counted_B)
        place_B = torch.arange(first, first + len(counted_B), device=counted_B.device)
        batch["counted"] = place_B < state.remainder


def counted_rows(accelerator: Accelerator, rows: Tensor, counted: Tensor) -> Tensor:
    """The rows of all devices that count, one device's after the other's; of each (N, ...) and (N,)."""
    return accelerator.gather(rows)[accelerator.gather(counted.long()).bool()]  # type: ignore[no-any-return]


def counted_before(accelerator: Accelerator, counted: Tensor) -> int:
    """How many count on the devices before this one."""
    return int(accelerator.gather(counted.sum()[None])[: accelerator.process_index].sum())
