"""The array types of this layer, and the check that arrays are one value a pair."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from outweigh.errors import DataError, ShapeError

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]
IntArray = NDArray[np.int64]


def check_pairs(**arrays: NDArray[Any]) -> None:
    """Nothing, if all arrays are of one shape (B,) with B > 0 and hold finite numbers.

    Raises:
        ShapeError: the shapes differ, are not one-dimensional, or hold no pair.
        DataError: a value is NaN or infinite.
    """
    shapes = {name: array.shape for name, array in arrays.items()}
    # (B,) against (B, 1) would broadcast to every pair against every other, without a sound.
    if len(set(shapes.values())) > 1 or any(len(shape) != 1 or not shape[0] for shape in shapes.values()):
        got = ", ".join(f"{name} {shape}" for name, shape in shapes.items())
        raise ShapeError(f"metrics: got {got}; want one shape (B,) with B > 0. Give one value a pair.")
    for name, array in arrays.items():
        finite = np.isfinite(array)
        if not finite.all():
            pair = int(np.argmin(finite))
            raise DataError(
                f"metrics: {name} is not finite, got {array[pair]} at pair {pair} (0-based), want a number. "
                "Look for NaN in the model's weights or for an overflow in half precision."
            )
