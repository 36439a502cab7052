"""How a source is written in a configuration: its name, a number, or a mapping with its options."""

from typing import Any

Spec = str | float | dict[str, Any] | None
