"""The configured loss: where each argument of the pairwise equation comes from."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

from torch import Tensor

from outweigh.objectives.pairwise import pairwise_loss
from outweigh.objectives.sources import AUXILIARY, Bound


class Objective(NamedTuple):
    """Sources bound to the data's columns, or numbers, or None where the equation's default holds."""

    listwise: bool = False
    margin: Bound | float | None = None
    flip_rate: Bound | float | None = None
    cap: Bound | float | None = None
    weight: Bound | float | None = None
    auxiliary: Mapping[str, float] = {}
    function: Callable[..., Tensor] = pairwise_loss  # of the gap and of what is given

    @property
    def sources(self) -> tuple[Bound, ...]:
        """The sources that are neither numbers nor defaults."""
        four = (self.margin, self.flip_rate, self.cap, self.weight)
        return tuple(source for source in four if isinstance(source, Bound))

    @property
    def needs(self) -> tuple[str, ...]:
        """What the loss asks of a batch: columns, and what the trainer itself gives."""
        terms = [need for name in self.auxiliary for need in AUXILIARY[name].needs]
        return tuple(sorted({*terms, *(need for source in self.sources for need in source.needs)}))

    @property
    def reads(self) -> tuple[str, ...]:
        """The same, and what sources are fitted to before training."""
        return tuple(sorted({need for source in self.sources for need in source.reads}))
