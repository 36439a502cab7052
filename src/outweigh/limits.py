"""What the fields of a configuration may be, told by their names. Imports nothing heavy: --help reads it."""

import math
import sys
from collections.abc import Collection, Mapping
from dataclasses import MISSING, fields
from numbers import Integral, Real
from typing import Any, Literal, get_args, get_origin, get_type_hints

from outweigh.errors import ConfigError

Limits = Mapping[str, tuple[float, float]]
"""Of fields, the least and the largest that they may be."""
ABOVE_0 = 1e-300  # the least number that is more than nothing
MOST_SEED = 2**32 - 1  # what numpy takes


def check_limits(config: Any, where: str, limits: Limits) -> None:
    """Nothing, once each field is a number of its type within its limits, or None where its type has that,
    and each choice one that there is.

    Raises:
        ConfigError: one is not.
    """
    hints = get_type_hints(type(config))
    for name, (least, most) in limits.items():
        value, kinds = getattr(config, name), (hints[name], *get_args(hints[name]))
        if value is None and type(None) in kinds:
            continue
        kind = Real if float in kinds else Integral
        top = sys.maxsize if most == math.inf and kind is Integral else most
        is_number = isinstance(value, kind) and not isinstance(value, bool)
        if not is_number or not (least <= value <= top and math.isfinite(value)):
            wanted = "more than 0" if least == ABOVE_0 else f"{least:g} or more"
            is_told = most < math.inf or (is_number and value > top)
            wanted += f", and at most {top:,}" if is_told else ""
            wanted += ", or none" if type(None) in kinds else ""
            whole = "" if kind is Real else "a whole number, "
            raise ConfigError(f"{where}{name}: got {value!r}, want {whole}{wanted}.")
    for name, hint in hints.items():
        if get_origin(hint) is Literal and (value := getattr(config, name)) not in get_args(hint):
            raise ConfigError(f"{where}{name}: got {value!r}, want one of {', '.join(get_args(hint))}.")


def check_unread(config: Any, where: str, names: Collection[str], why: str) -> None:
    """Nothing, if the fields of these names, which nothing will read, are as they are by default.

    Raises:
        ConfigError: one is not; `why` says what makes it meaningless, and what to do.
    """
    for each in fields(config):
        default = each.default if each.default_factory is MISSING else each.default_factory()
        if each.name in names and getattr(config, each.name) != default:
            raise ConfigError(f"{where}{each.name}: has no meaning {why}")
