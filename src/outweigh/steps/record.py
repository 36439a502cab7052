"""What a run folder says of itself: run.yaml and results.json."""

import json
import os
import platform
import resource
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import yaml

from outweigh.data.checks import check_pairs_data
from outweigh.data.files import content_hash, find_files
from outweigh.data.pairs import Data, PairSet
from outweigh.data.writing import replaced_whole
from outweigh.errors import ConfigError
from outweigh.yaml12 import read_yaml_file

PACKAGES = ("outweigh", "torch", "transformers", "accelerate", "datasets", "peft", "numpy", "scikit-learn")
FREE = {"audit.votes.jobs"}
"""Settings that may change between a run and its going on: they decide nothing but the time."""
AUDIT, STRENGTH = "audit.json", "strength.parquet"
"""An audit of the whole file, and the values of each pair."""
IN_MEMORY = "rows in memory"


class Stopwatch:
    """Seconds of each named part of a run."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        started = time.monotonic()
        try:
            yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.monotonic() - started


def headed(command: str, seed: int) -> dict[str, Any]:
    """The first entries of every results.json: what ran, when, with which versions, on which machine."""
    return {
        "outweigh": version("outweigh"),
        "created": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "command": command,
        "seed": seed,
        "versions": {"python": platform.python_version(), **{name: version(name) for name in PACKAGES}},
        "machine": {
            "cpu": _cpu(),
            "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
            "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
            "system": platform.platform(),
        },
    }


def described(data: Data | PairSet, pairs: PairSet, eval_pairs: PairSet | None = None) -> dict[str, Any]:
    """The checks of the data with its files and their content hashes."""
    return {
        **check_pairs_data(pairs, eval_pairs).to_dict(),
        "files": sources(data if isinstance(data, str | Path) else pairs),
    }


def sources(data: Data | PairSet) -> list[dict[str, str]]:
    """Path and sha256 of each file; a Hub data set by its name, and rows from memory, as one."""
    if isinstance(data, PairSet):
        return [{"path": IN_MEMORY, "sha256": data.sha256}]
    files = find_files(data) if isinstance(data, str | Path) else []
    whole = str(data) if isinstance(data, str | Path) else IN_MEMORY
    found = [{"path": str(each), "sha256": content_hash(each)} for each in files]
    return found or [{"path": whole, "sha256": content_hash(data)}]


def check_apart(out: Path, *data: Data | PairSet | None) -> None:
    """Nothing, if what is to be written to `out` takes the place of none of the data's files.

    Raises:
        ConfigError: it is one of them, or a folder.
    """
    if out.is_dir():
        raise ConfigError(f"{out}: is a folder. Name a file.")
    files = [file for each in data if isinstance(each, str | Path) for file in find_files(each)]
    if out.exists() and any(out.samefile(file) for file in files):
        raise ConfigError(f"{out}: is what is read. Name another file.")


def peak_memory() -> int:
    """Bytes of memory that this process, or one that it began and has ended, has held at most."""
    who = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    peak = max(resource.getrusage(each).ru_maxrss for each in who)
    return peak if sys.platform == "darwin" else peak * 1024


def write_json(path: Path, results: Mapping[str, Any]) -> None:
    """Nothing; writes the results as JSON, whole or not at all."""
    with replaced_whole(path) as out:
        out.write(as_json(results, indent=1).encode())


def as_json(results: Mapping[str, Any], indent: int | None = None) -> str:
    """The results as JSON; what has a to_dict() is written by it."""
    return json.dumps(results, indent=indent, default=_plain, allow_nan=False)


def check_owner(folder: Path, command: str) -> None:
    """Nothing, if the folder has no run.yaml, or this command's.

    Raises:
        ConfigError: it has another's.
    """
    file = folder / "run.yaml"
    if not file.exists():
        return
    about = read_yaml_file(file)
    theirs = about.get("command") if isinstance(about, Mapping) else None
    if theirs != command:
        whose = f"what outweigh {theirs} made" if theirs else "a run.yaml that is not outweigh's"
        raise ConfigError(f"{folder}: holds {whose}. Choose another folder.")


def write_run(folder: Path, command: str, settings: Mapping[str, Any], data: Mapping[str, Any]) -> None:
    """Nothing; writes run.yaml, by which a run can be repeated: options, versions, seeds, data hashes."""
    about = headed(command, settings.get("seed", 0))
    about |= {"settings": json.loads(as_json(settings)), "data": data}
    with replaced_whole(folder / "run.yaml") as out:
        out.write(yaml.safe_dump(about, sort_keys=False, allow_unicode=True).encode())


def check_same_run(folder: Path, settings: Mapping[str, Any], data: Mapping[str, Any]) -> None:
    """Nothing, if the folder's run.yaml, where it has one, is of these settings and data.

    Raises:
        ConfigError: it is not; the settings that differ are named.
    """
    file = folder / "run.yaml"
    if not file.exists():
        return
    before = yaml.safe_load(file.read_text(encoding="utf-8"))
    old, new = _flat(before["settings"]), _flat(json.loads(as_json(settings)))
    if other := sorted(name for name in {*old, *new} - FREE if old.get(name) != new.get(name)):
        raise ConfigError(
            f"{folder}: holds a run with another {', '.join(other)}. Give the settings of its run.yaml, or "
            "choose another folder."
        )
    if _hashes(before["data"]) != _hashes(data):
        raise ConfigError(f"{folder}: holds a run of other data. Give that, or choose another folder.")


def _flat(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """The settings by dotted name."""
    found: dict[str, Any] = {}
    for name, value in settings.items():
        nested = isinstance(value, Mapping)
        found |= _flat(value, f"{prefix}{name}.") if nested else {f"{prefix}{name}": value}
    return found


def _hashes(data: Mapping[str, Any]) -> list[str | None]:
    parts = (data, data.get("data", {}), data.get("eval_data", {}))
    return [file.get("sha256") for part in parts for file in part.get("files", ())]


def _plain(value: Any) -> Any:
    if isinstance(value, Path):
        return str(value)
    if hasattr(value, "to_dict"):
        return value.to_dict()
    if hasattr(value, "tolist"):
        return value.tolist()
    return asdict(value)


def _cpu() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if not cpuinfo.exists():
        return platform.processor()
    names = [
        line.split(":", 1)[1].strip() for line in cpuinfo.read_text().splitlines() if "model name" in line
    ]
    return names[0] if names else platform.processor()
