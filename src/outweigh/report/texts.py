"""User texts and numbers, made fit to be shown: nothing missing, invisible or endless reaches the page."""

import math
import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any, TypeGuard

import numpy as np
from markupsafe import Markup

DASH = "\u2013"  # stands for a value that there is none of
MINUS = "\u2212"
SPACE = "\u00a0"  # keeps a number and its unit on one line
LONGEST_TEXT = 4000
"""Characters of a text that are shown; a page of texts stays quick to open."""

# Characters that hide, reorder or break what stands around them, and those that UTF-8 or HTML can't hold:
# controls, lone surrogates, zero-width spaces, bidirectional marks and overrides, tags. The joiners stay,
# which Persian and emoji are written with.
INVISIBLE = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u00ad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e"
    "\u2060-\u206f\ud800-\udfff\ufdd0-\ufdef\ufeff\ufff9-\ufffb\ufffe\uffff\U000e0000-\U000e007f]"
)


def present(value: Any) -> Any:
    """The value as plain dicts, lists and scalars, without what is missing.

    Keys whose value is None, NaN or infinite are left out; in a list, which has places, they become None.
    """
    if isinstance(value, Mapping):
        kept = {str(key): present(each) for key, each in value.items()}
        return {key: each for key, each in kept.items() if each is not None}
    if isinstance(value, (list, tuple, set, np.ndarray)):
        return [present(each) for each in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if isinstance(value, (bool, int, str)) or value is None else str(value)


def at(results: Any, *path: str) -> Any:
    """What stands at the path, or None where any part of it is absent."""
    for key in path:
        if not isinstance(results, Mapping):
            return None
        results = results.get(key)
    return results


def listed(value: Any) -> list[Mapping[str, Any]]:
    """The mappings in a list; none where it is no list."""
    return [each for each in value if isinstance(each, Mapping)] if isinstance(value, list) else []


def shown_text(value: Any, longest: int = LONGEST_TEXT) -> str:
    """The text with its invisible characters named, cut at `longest` with a note of its true length."""
    text = str(value)
    # A lone character is as good as nothing to the reader: cut first, as naming may lengthen the text.
    kept = INVISIBLE.sub(lambda found: f"[U+{ord(found[0]):04X}]", text[:longest])
    return kept if len(text) <= longest else f"{kept} \u2026 [cut: {len(text):,} characters in all]"


def is_number(value: Any) -> TypeGuard[float]:
    """True for an int or a float, False for a bool."""
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def number(value: Any, form: str = ".3f") -> str:
    """The number in Python's format, with a typographic minus; a dash where there is none."""
    if not is_number(value):
        return DASH
    text = f"{value:{form}}"
    if float(text.replace(",", "").rstrip("%")) == 0:  # neither -0.000 nor +0.000
        text = text.lstrip("+-")
    return re.sub(r"e([+-])0", r"e\1", text).replace("e+", "e").replace("-", MINUS)


def count(value: Any) -> str:
    """The number without decimals, thousands set apart."""
    return number(value, ",.0f")


def percent(value: Any) -> str:
    """A share as per cent with one decimal."""
    return f"{number(100 * value, '.1f')}{SPACE}%" if is_number(value) else DASH


def estimate(value: Any, form: str = ".3f", *, per_cent: bool = False) -> str:
    """`0.794 [0.779, 0.809]`, the interval set apart; from a mapping of value, low and high, or a number."""
    limits = value if isinstance(value, Mapping) else {"value": value}
    middle, low, high = (limits.get(key) for key in ("value", "low", "high"))
    if not is_number(middle):
        return DASH
    scale, unit = (100, f"{SPACE}%") if per_cent else (1, "")
    form = ".1f" if per_cent else form
    shown = f"{number(scale * middle, form)}{unit}"
    if not (is_number(low) and is_number(high)):
        return shown
    interval = f"[{number(scale * low, form)},{SPACE}{number(scale * high, form)}]"
    return Markup('{} <span class="interval">{}</span>').format(shown, interval)


def duration(seconds: Any) -> str:
    """Seconds in the units a person would use."""
    if not is_number(seconds):
        return DASH
    if seconds < 60:
        return f"{seconds:.1f}{SPACE}s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    parts = (hours, "h", minutes, "min") if hours else (minutes, "min", rest, "s")
    return "{}\u00a0{} {}\u00a0{}".format(*parts)


def moment(time: Any) -> str | None:
    """An ISO time to the minute; any other text as it is."""
    try:
        return f"{datetime.fromisoformat(time):%Y-%m-%d %H:%M %Z}".strip()
    except (TypeError, ValueError):
        return time if isinstance(time, str) else None


def size(number_of_bytes: Any) -> str:
    """Bytes as MiB or GiB."""
    if not is_number(number_of_bytes):
        return DASH
    mib = number_of_bytes / 2**20
    return f"{mib / 1024:.1f}{SPACE}GiB" if mib >= 1024 else f"{mib:,.0f}{SPACE}MiB"


def anything(value: Any) -> str:
    """A scalar of unknown meaning: counts with thousands set apart, other numbers with three figures."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return count(value)
    if isinstance(value, float):
        return number(value, ".3g")
    if isinstance(value, Mapping) and "value" in value:
        return estimate(value)
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {anything(each)}" for key, each in value.items()) or DASH
    if isinstance(value, list):
        return ", ".join(anything(each) for each in value) or DASH
    return DASH if value is None else str(value)
