"""YAML as of version 1.2 where it matters here: 1e-5 is a number."""

import re
from pathlib import Path
from typing import Any

import yaml

from outweigh.errors import ConfigError


class _Loader(yaml.SafeLoader):
    """PyYAML reads version 1.1, where a number with an exponent needs a point and a sign."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?\d+(\.\d*)?[eE][-+]?\d+$"), list("-+0123456789")
)


def read_yaml_file(path: Path) -> Any:
    """What the file holds.

    Raises:
        ConfigError: it can't be read, or is no YAML.
    """
    try:
        return read_yaml(path.read_text(encoding="utf-8"), str(path))
    except OSError as error:
        raise ConfigError(f"{path}: can't be read ({error.strerror}).") from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: no valid YAML ({error}).") from None


def read_yaml(text: str, where: str) -> Any:
    """What the text holds.

    Raises:
        ConfigError: it is no YAML; `where` says of what.
    """
    try:
        return yaml.load(text, _Loader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        at = f", line {mark.line + 1}, character {mark.column + 1}" if mark else ""
        raise ConfigError(f"{where}: no valid YAML ({getattr(error, 'problem', error)}{at}).") from None
