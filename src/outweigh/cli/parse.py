"""Arguments of a verb: a dataclass, filled from --config FILE, --set key=value and flags, the later winning.

All three become flags, so that each value is checked, and each mistake answered, in one place; but an unknown
name is told where it stands, for as a flag its value would be taken for what the verb reads.
"""

import argparse
import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, get_args, get_origin, get_type_hints

import tyro
import yaml
from tyro.constructors import ConstructorRegistry, PrimitiveConstructorSpec, PrimitiveTypeInfo

from outweigh import progress
from outweigh.errors import ConfigError
from outweigh.objectives.spec import Spec
from outweigh.yaml12 import read_yaml, read_yaml_file

Verb = TypeVar("Verb")

OnBadRows = Literal["error", "skip"]

TOLD_ALONE = ("weights", "pairs")
"""What run.yaml tells of files; a command line has their paths."""

POSITIONAL = get_args(tyro.conf.Positional[str])[1]
WRITTEN_AS_YAML = (Spec, dict[str, Any], dict[str, float])


@dataclass(frozen=True, kw_only=True)
class Common:
    """What every verb takes."""

    config: Path | None = None
    """YAML file with any of the options, or the run.yaml of a run to repeat; --set and flags win over it."""
    set: tyro.conf.UseAppendAction[tuple[str, ...]] = ()
    """KEY=VALUE for any option, by its flag's name without the dashes, with a YAML value. May be repeated."""
    quiet: bool = False
    """Say nothing but errors and the result."""
    json: bool = False
    """Print the result as JSON on standard output."""
    dry_run: bool = False
    """Say what would be done and what it would cost, and stop."""


Shared = Annotated[Common, tyro.conf.arg(name="")]
"""A field of this type adds the common options, without a prefix."""


def parse(verb: type[Verb], arguments: Sequence[str], name: str | None = None) -> Verb:
    """The arguments of the verb, called as its file unless named; what can't be understood ends the process
    with a message and exit code 2.

    Raises:
        ConfigError: --config can't be read, --set is not key=value, or an option there is not, or of
            another kind.
    """
    early = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    early.add_argument("--config", type=Path)
    early.add_argument("--set", action="append", default=[])
    told, _ = early.parse_known_args(arguments)
    name = name or verb.__module__.rpartition(".")[2]
    options = {} if told.config is None else _options(told.config, name)
    _check_known(options, verb, str(told.config))
    flags = list(_flags(options))
    for setting in told.set:
        key, equals, value = setting.partition("=")
        if not equals:
            raise ConfigError(f"--set: got {setting!r}, want key=value, as in --set epochs=2.")
        asked = {key: read_yaml(value, f"--set {key}")}
        _check_known(asked, verb, "--set")
        flags += _flags(asked)
    given = {each.partition("=")[0].replace("_", "-") for each in arguments}
    lists = {flag: values for flag, values in flags if values is not None and flag not in given}
    front = [flag for flag, values in flags if values is None]
    # Behind, for a list takes all that follows it, a positional argument too
    once = _repeated(verb)
    behind = [
        each
        for flag, values in lists.items()
        for group in ([[value] for value in values] if flag in once else [values])
        for each in (flag, *group)
    ]
    found = tyro.cli(
        verb,
        prog=f"outweigh {name}",
        args=[*front, *arguments, *behind],
        registry=_registry(),
    )
    common: Common = found.common  # type: ignore[attr-defined]
    progress.QUIET = common.quiet
    logging.basicConfig(level=logging.ERROR if common.quiet else logging.WARNING, format="%(message)s")
    logging.getLogger("huggingface_hub").propagate = False  # it prints its lines itself
    if common.quiet:
        os.environ.setdefault("HF_HUB_VERBOSITY", "error")
    return found


def _check_known(options: Mapping[str, Any], kind: type, where: str, before: str = "") -> None:
    """Nothing, if the verb, or the part of it, has all these options, of these kinds.

    Raises:
        ConfigError: it lacks one, or one is of another kind.
    """
    known = _entries(kind)
    for key, value in options.items():
        first, _, rest = str(key).replace("-", "_").partition(".")
        if first not in known:
            near = get_close_matches(first, known, n=1)
            said = f"Did you mean {before}{near[0]}?" if near else f"Want one of {', '.join(known)}."
            raise ConfigError(f"{where}: unknown option {before}{key}. {said}")
        inner = {rest: value} if rest else value
        if wanted := _wanted(inner, known[first]):
            raise ConfigError(f"{where}: {before}{key}: got {value!r}, want {wanted}.")
        if is_dataclass(known[first]):
            _check_known(inner, known[first], where, f"{before}{first}.")


def _wanted(value: Any, kind: Any) -> str | None:
    """What an option of this kind wants in place of the value; None where this may be one. Numbers and words
    are left to tyro, which reads them as flags."""
    kinds = {kind, *get_args(kind)}
    if is_dataclass(kind):
        return None if isinstance(value, Mapping) else "a mapping of its options"
    if kind in WRITTEN_AS_YAML or (value is None and type(None) in kinds):
        return None
    if bool in kinds or isinstance(value, bool):
        fits = isinstance(value, bool) and bool in kinds
        return None if fits else "true or false" if bool in kinds else "no truth value"
    if isinstance(value, list):
        return None if any(get_origin(each) is tuple for each in kinds) else "a single value"
    return "a value" if value is None else "a single value" if isinstance(value, Mapping) else None


def _entries(kind: Any) -> dict[str, Any]:
    """The options of a verb, or a part of it, by their names, with their types; what stands without a name on
    the command line is none."""
    hints, found = get_type_hints(kind, include_extras=True), dict[str, Any]()
    for each in fields(kind):
        inner, *about = (
            get_args(hints[each.name]) if get_origin(hints[each.name]) is Annotated else (hints[each.name],)
        )
        if POSITIONAL in about:
            continue
        names = [one.name for one in about if getattr(one, "name", None) is not None]
        if names == [""]:  # its options stand among the others
            found |= _entries(inner)
        else:
            found[names[0] if names else each.name] = inner
    return found


def _repeated(verb: type) -> set[str]:
    """The flags that take one value each time, and are repeated for more."""
    marked = get_args(tyro.conf.UseAppendAction[str])[1:]
    hints = get_type_hints(verb, include_extras=True)
    return {f"--{name.replace('_', '-')}" for name, hint in hints.items() if get_args(hint)[1:] == marked}


def _flags(options: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, list[str] | None]]:
    """The options as flags, {train: {epochs: 2}} as --train.epochs=2; lists have their values apart."""
    for key, value in options.items():
        name = f"--{prefix}{key}".replace("_", "-")
        if isinstance(value, bool):
            path, dot, last = name.removeprefix("--").rpartition(".")
            yield f"--{path}{dot}{'' if value else 'no-'}{last}", None
        elif isinstance(value, list):
            if value:
                yield name, list(map(str, value))
        elif isinstance(value, Mapping) and not _is_one_value(key):
            yield from _flags(value, f"{prefix}{key}.")
        else:
            plain = isinstance(value, str) and not _is_one_value(key)
            yield f"{name}={value if plain else _written(value)}", None


def _written(value: Any) -> str:
    if value is None:
        return "None"
    return yaml.safe_dump(value, default_flow_style=True, width=10_000).strip().removesuffix("\n...")


def _is_one_value(key: str) -> bool:
    """True for the options that are themselves mappings."""
    name = key.rpartition(".")[2].replace("-", "_")
    return name in ("margin", "flip_rate", "cap", "weight", "auxiliary", "trainer")


def _options(path: Path, verb: str) -> dict[str, Any]:
    """The options in the file; of a run.yaml, which a run of the verb has left, its settings."""
    content = read_yaml_file(path)
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise ConfigError(f"{path}: got a {type(content).__name__}, want a mapping of options.")
    if not {"outweigh", "command", "settings"} <= content.keys():
        return content
    if content["command"] not in (verb, f"{verb} dpo"):
        raise ConfigError(f"{path}: is of outweigh {content['command']}, want one of outweigh {verb}.")
    return {name: value for name, value in content["settings"].items() if name not in TOLD_ALONE}


def _of_flag(arguments: list[str]) -> Any:
    """The value of a flag that is YAML; what is none is a ValueError, of which tyro names the flag."""
    try:
        return read_yaml(arguments[0], repr(arguments[0]))
    except ConfigError as error:
        raise ValueError(str(error)) from None


def _registry() -> ConstructorRegistry:
    """tyro's rules, and one for options that are written as YAML: margin='{source: strength, clip: 2}'."""
    registry = ConstructorRegistry()

    @registry.primitive_rule
    def yaml_value(info: PrimitiveTypeInfo) -> PrimitiveConstructorSpec[Any] | None:
        if info.type not in WRITTEN_AS_YAML:
            return None
        return PrimitiveConstructorSpec(
            nargs=1,
            metavar="YAML",
            instance_from_str=_of_flag,
            is_instance=lambda value: value is None or isinstance(value, str | int | float | dict),
            str_from_instance=lambda value: [_written(value)],
        )

    return registry
