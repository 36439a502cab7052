"""What the pairs since the last log were like."""

from collections.abc import Mapping

import torch
from accelerate import Accelerator
from torch import Tensor
from torch.nn.functional import softplus


class Window:
    """Sums over the pairs that this device has trained on since the last log."""

    def __init__(self) -> None:
        self.sums = torch.zeros(8, dtype=torch.float64)

    def add(self, gap_B: Tensor, given: Mapping[str, Tensor | float]) -> None:
        """Nothing; the pairs are counted, with the margins and caps that the loss was given."""
        gap_B = gap_B.detach().double()
        margin_B, cap_B = (
            torch.as_tensor(given.get(key, default), dtype=torch.float64, device=gap_B.device).expand_as(
                gap_B
            )
            for key, default in (("margin", 0.0), ("cap", torch.inf))
        )
        right = (gap_B > 0).double() + (gap_B == 0).double() / 2  # ties count half
        sums = (right, gap_B, gap_B.square(), softplus(-gap_B), gap_B == 0, gap_B >= cap_B, margin_B.abs())
        found = torch.stack([each.double().sum() for each in (*sums, torch.ones_like(gap_B))])
        self.sums = self.sums.to(found.device) + found  # read when it is told, so that no step waits for it

    def told(self, accelerator: Accelerator) -> dict[str, float]:
        """Means over the pairs of all devices, and how many they are; nothing of none. They are forgotten."""
        sums = accelerator.reduce(self.sums.to(accelerator.device), "sum").cpu()
        self.sums = torch.zeros_like(self.sums)
        if not sums[-1]:
            return {}
        right, gap, square, log_loss, ties, capped, margin = (sums[:-1] / sums[-1]).tolist()
        found = {"accuracy": right, "gap": gap, "gap_std": max(0.0, square - gap**2) ** 0.5}
        found |= {"log_loss": log_loss, "ties": ties, "pairs": sums[-1].item()}
        return found | {"capped": capped, "margin": margin}
