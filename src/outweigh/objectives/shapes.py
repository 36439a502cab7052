"""Checks that hold one value a pair to one value a pair."""

import torch
from torch import Tensor

from outweigh.errors import ShapeError


def check_pairs(**values: Tensor | float | None) -> None:
    """Nothing, once every tensor given is of the same shape (B,); numbers and None always fit.

    Raises:
        ShapeError: a tensor has another shape. (B,) against (B, 1) would broadcast to (B, B) and train
            on every wrong pair without a sound.
    """
    shapes = {name: tuple(value.shape) for name, value in values.items() if isinstance(value, Tensor)}
    if len(set(shapes.values())) > 1 or any(len(shape) != 1 for shape in shapes.values()):
        got = ", ".join(f"{name} {shape}" for name, shape in shapes.items())
        raise ShapeError(f"rewards: got {got}; want one shape (B,). A head's (B, 1) needs .squeeze(-1).")


def at_least_float32(value: Tensor) -> Tensor:
    """The tensor in float32, or float64 where it came so."""
    return value if value.dtype == torch.float64 else value.float()
