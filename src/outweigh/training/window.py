"""What the pairs since the last log were like."""

from collections.abc import Mapping

import torch
from accelerate import Accelerator
from torch import Tensor
from torch.nn.functional import softplus

AT_CAP = 0.9
"""Of where a capped gap rests: from there on it is the cap that holds it."""


class Window:
    """Sums over the pairs that this device has trained on since the last log, and what was largest of a
    step."""

    def __init__(self) -> None:
        self.sums = torch.zeros(8, dtype=torch.float64)
        self._largest: dict[str, Tensor] = {}

    def add(self, gap_B: Tensor, given: Mapping[str, Tensor | float]) -> None:
        """Nothing; the pairs are counted, with the margins and caps that the loss was given.

        A pair is at its cap where its gap is near (margin + cap) / 2, at which, without a flip rate, both
        terms of the loss balance: beyond it the cap pulls back.
        """
        gap_B = gap_B.detach().double()
        margin_B, cap_B = (
            torch.as_tensor(given.get(key, default), dtype=torch.float64, device=gap_B.device).expand_as(
                gap_B
            )
            for key, default in (("margin", 0.0), ("cap", torch.inf))
        )
        right = (gap_B > 0).double() + (gap_B == 0).double() / 2  # ties count half
        capped = gap_B >= AT_CAP * (margin_B + cap_B) / 2
        sums = (right, gap_B, gap_B.square(), softplus(-gap_B), gap_B == 0, capped, margin_B.abs())
        found = torch.stack([each.double().sum() for each in (*sums, torch.ones_like(gap_B))])
        self.sums = self.sums.to(found.device) + found  # read when it is told, so that no step waits for it

    def note(self, name: str, value: Tensor | float) -> None:
        """Nothing; the value is one of which the largest since the last log is told."""
        value = torch.as_tensor(value, dtype=torch.float64).detach()
        before = self._largest.get(name, value)
        self._largest[name] = torch.maximum(before.to(value.device), value)

    def told(self, accelerator: Accelerator) -> dict[str, float]:
        """Means over the pairs of all devices, and how many they are; nothing of none; and what was largest,
        a mean over devices. They are forgotten."""
        sums = accelerator.reduce(self.sums.to(accelerator.device), "sum").cpu()
        values = {
            name: accelerator.reduce(value.to(accelerator.device), "mean")
            for name, value in self._largest.items()
        }
        largest = {name: float(value) for name, value in values.items()}
        self.sums, self._largest = torch.zeros_like(self.sums), {}
        if not sums[-1]:
            return largest
        right, gap, square, log_loss, ties, at_cap, margin = (sums[:-1] / sums[-1]).tolist()
        found = {"accuracy": right, "gap": gap, "gap_std": max(0.0, square - gap**2) ** 0.5}
        found |= {"log_loss": log_loss, "ties": ties, "pairs": sums[-1].item()}
        return found | {"capped": at_cap, "margin": margin} | largest
