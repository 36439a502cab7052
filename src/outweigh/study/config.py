"""What a study file says: data, methods, seeds, planted noise, fractions. Imports nothing heavy."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, is_dataclass, replace
from difflib import get_close_matches
from itertools import product
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeVar, get_args, get_origin, get_type_hints

from outweigh.denoising.policies import POLICIES, PRESETS
from outweigh.errors import ConfigError
from outweigh.steps.config import AuditConfig
from outweigh.training.config import TrainConfig
from outweigh.yaml12 import read_yaml_file

T = TypeVar("T")

AUDIT: dict[str, Any] = {"policy": "flip", "trust": False, "votes": {"method": "probes"}}
"""How a method's pairs are audited where the study says nothing: no gate, so that what repairs do is seen
where the gate would have kept the labels, too."""


SHIFTED = "shifted"


class Cell(NamedTuple):
    """One run of a study."""

    data: str
    planted: float
    fraction: float
    seed: int
    method: str

    def __str__(self) -> str:
        planted = f", {self.planted:.0%} planted" if self.planted else ""
        part = f", {self.fraction:.0%} of the pairs" if self.fraction < 1 else ""
        return f"{self.data}{planted}{part}, seed {self.seed}: {self.method}"


@dataclass(frozen=True, kw_only=True)
class Changes:
    """What a method does to its training pairs by their audit, before it trains."""

    repair: str | None = None
    """The policy that labels are repaired by."""
    only: tuple[float, float] | None = None
    """The shares between which pairs stand when sorted by strength, weakest first: [0, 0.1] is the lowest
    tenth. The others are left out."""
    flipped: bool = False
    """Turns the labels of all pairs that are left, with `only`."""
    shuffled: bool = False
    """Hands the audit's values out among the pairs at random: what repair does without knowing which."""

    def __post_init__(self) -> None:
        if self.repair is not None and self.repair not in (*POLICIES, *PRESETS):
            known = ", ".join((*POLICIES, *PRESETS))
            raise ConfigError(f"repair: got {self.repair!r}, want one of {known}.")
        shares = self.only if isinstance(self.only, list | tuple) else []
        numbers = [each for each in shares if isinstance(each, int | float)]
        if self.only is not None and not (len(numbers) == 2 and 0 <= numbers[0] < numbers[1] <= 1):
            raise ConfigError(f"only: got {self.only!r}, want two shares from 0 to 1, the lower first.")
        if self.only is not None and self.repair is not None:
            raise ConfigError("only: got a repair too, which changes what is weak. Name one of them.")
        if self.flipped and self.only is None:
            raise ConfigError("flipped: has no meaning without only. Name the shares, as in only: [0, 0.1].")
        if self.shuffled and self.repair is None and self.only is None:
            raise ConfigError("shuffled: has no meaning without repair or only. Name one of them.")

    @property
    def audited(self) -> bool:
        """Whether they need an audit."""
        return self != Changes()


CHANGES = tuple(each.name for each in fields(Changes))


@dataclass(frozen=True, kw_only=True)
class Study:
    """A grid: every method on every data set, at every share of planted flips and of the pairs, and seed."""

    data: dict[str, dict[str, str]]
    """Name -> train and eval, files of pairs; without eval a quarter of train's prompts is held out, for
    every decision that is to come before the test file is read. `shifted`, a file of responses or of pairs
    whose labels are not read, is what methods with `meta: {data: shifted}` get."""
    methods: dict[str, dict[str, Any]]
    """Name -> options of `outweigh train`, and of `Changes` that its pairs go through before: repair, only,
    flipped, shuffled."""
    baseline: str = "plain"
    """The method that the others are compared with."""
    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)
    """Each decides the planted flips, the drawn fraction, the voters and the training."""
    planted: tuple[float, ...] = (0.0,)
    """Shares of the training labels that are turned round."""
    fractions: tuple[float, ...] = (1.0,)
    """Shares of the training pairs that are drawn."""
    train: dict[str, Any] = field(default_factory=dict)
    """Options of `outweigh train` for every method."""
    audit: dict[str, Any] = field(default_factory=dict)
    """Options of `outweigh audit` for the methods that need one."""

    def __post_init__(self) -> None:
        if not self.data or not self.methods or not self.seeds:
            raise ConfigError("study: want data, methods and seeds, at least one of each.")
        if odd := [name for name in (*self.data, *self.methods) if not isinstance(name, str)]:
            raise ConfigError(f"{odd[0]!r}: is no name of data or a method. Put it in quotes.")
        for name in ("seeds", "planted", "fractions"):
            if len({*getattr(self, name)}) < len(getattr(self, name)):
                raise ConfigError(f"{name}: got {list(getattr(self, name))}, one of them twice.")
        for name, files in self.data.items():
            if not isinstance(files, Mapping) or not {"train"} <= set(files) <= {"train", "eval", SHIFTED}:
                raise ConfigError(
                    f"data {name}: got {files!r}, want train, and eval or shifted, a file each."
                )
        if not self.planted or not all(0 <= share <= 0.5 for share in self.planted):
            raise ConfigError(f"planted: got {list(self.planted)}, want numbers from 0 to 0.5.")
        if not self.fractions or not all(0 < share <= 1 for share in self.fractions):
            raise ConfigError(f"fractions: got {list(self.fractions)}, want numbers above 0, at most 1.")
        for name, options in (("train", self.train), ("audit", self.audit), *self.methods.items()):
            if not isinstance(options, Mapping):
                raise ConfigError(f"{name}: got {options!r}, want a mapping of options, as {{}}.")
            if "seed" in options:
                raise ConfigError(f"{name}, seed: is the cell's. List it under seeds.")
        for name in self.methods:
            self.changes(name)
            if self.training(name, seed=0).meta.data == SHIFTED:
                lacking = [each for each, files in self.data.items() if SHIFTED not in files]
                if lacking:
                    raise ConfigError(
                        f"methods {name}, meta: {', '.join(lacking)} has no file shifted. Add one under data."
                    )
        self.auditing(seed=0)
        if self.baseline not in self.methods:
            raise ConfigError(f"baseline: got {self.baseline!r}, want one of {', '.join(self.methods)}.")

    @property
    def cells(self) -> list[Cell]:
        """Every run, those that share an audit side by side."""
        grid = product(self.data, self.planted, self.fractions, self.seeds, self.methods)
        return [Cell(*each) for each in grid]

    def changes(self, method: str) -> Changes:
        """What the method does to its pairs.

        Raises:
            ConfigError: no such policy, or changes that make no sense together.
        """
        own = {key: value for key, value in self.methods[method].items() if key in CHANGES}
        try:
            return configured(Changes, own, f"methods {method}")
        except ConfigError as error:
            where = f"methods {method}, "
            raise ConfigError(where + str(error).removeprefix(where)) from None

    def training(self, method: str, *, seed: int, data: str | None = None) -> TrainConfig:
        """How the method trains, on the named data.

        Raises:
            ConfigError: an option that training does not have.
        """
        own = {key: value for key, value in self.methods[method].items() if key not in CHANGES}
        found = configured(TrainConfig, merged(self.train, own) | {"seed": seed}, f"methods {method}")
        if data is None or found.meta.data != SHIFTED:
            return found
        return replace(found, meta=replace(found.meta, data=self.data[data][SHIFTED]))

    def auditing(self, *, seed: int) -> AuditConfig:
        """How the methods that repair are audited.

        Raises:
            ConfigError: an option that the audit does not have.
        """
        return configured(AuditConfig, merged(AUDIT, self.audit) | {"seed": seed}, "audit")


def read_study(path: Path) -> Study:
    """The study of a YAML file; its relative paths are relative to the working directory.

    Raises:
        ConfigError: no file, no YAML, or an unknown entry.
    """
    content = read_yaml_file(path)
    if not isinstance(content, Mapping):
        raise ConfigError(f"{path}: got a {type(content).__name__}, want a mapping with data and methods.")
    if missing := [name for name in ("data", "methods") if not isinstance(content.get(name), Mapping)]:
        raise ConfigError(f"{path}: want a mapping {' and '.join(missing)}.")
    for name in ("seeds", "planted", "fractions"):
        if name in content and not isinstance(content[name], list):
            raise ConfigError(f"{path}, {name}: got {content[name]!r}, want a list.")
    lists = {name: tuple(content[name]) for name in ("seeds", "planted", "fractions") if name in content}
    return configured(Study, {**content, **lists}, str(path))


def configured(cls: type[T], options: Mapping[str, Any], where: str) -> T:
    """The dataclass with these options; those of its own dataclasses as nested mappings.

    Raises:
        ConfigError: an option that there is not, with the nearest one that there is, or an unknown choice.
    """
    hints = get_type_hints(cls)
    known = [each.name for each in fields(cls)]  # type: ignore[arg-type]
    given = {}
    for name, value in options.items():
        if name not in known:
            near = get_close_matches(str(name), known, n=1)
            hint = f"Did you mean {near[0]!r}?" if near else f"Want {', '.join(known)}."
            raise ConfigError(f"{where}: unknown entry {name!r}. {hint}")
        if get_origin(hints[name]) is Literal and value not in get_args(hints[name]):
            choices = ", ".join(map(str, get_args(hints[name])))
            raise ConfigError(f"{where}, {name}: got {value!r}, want one of {choices}.")
        nested = is_dataclass(hints[name])
        if nested and not isinstance(value, Mapping):
            raise ConfigError(f"{where}, {name}: got {value!r}, want a mapping of its options.")
        wanted = {hints[name], *get_args(hints[name])}
        if float in wanted and str not in wanted and isinstance(value, str | bool):
            raise ConfigError(f"{where}, {name}: got {value!r}, want a number.")
        given[name] = configured(hints[name], value, f"{where}, {name}") if nested else value
    try:
        return cls(**given)
    except TypeError as error:
        raise ConfigError(f"{where}: {error}.") from None


def merged(base: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """Both mappings in one, entry by entry; where both have one, a mapping is merged, else `own` counts."""
    both = dict(base)
    for name, value in own.items():
        nested = isinstance(value, Mapping) and isinstance(both.get(name), Mapping)
        both[name] = merged(both[name], value) if nested and "source" not in value else value
    return both
