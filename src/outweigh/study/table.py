"""Done cells -> one table: accuracy over seeds, gains over the baseline with intervals, what they cost."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any

import numpy as np
from rich.markup import escape
from rich.table import Table

from outweigh.evaluation.facts import PairFacts
from outweigh.metrics.accuracy import correct
from outweigh.metrics.intervals import Unit
from outweigh.metrics.paired import Gain, gain_over_seeds, holm
from outweigh.study.config import Cell, Study
from outweigh.study.pairs import held_out_pairs

Found = Mapping[Cell, Mapping[str, Any]]
BySeed = Mapping[int, Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class Line:
    """One method on one data set, over seeds."""

    data: str
    planted: float
    fraction: float
    method: str
    seeds: int
    accuracy: float
    deviation: float  # sample standard deviation over seeds; 0 of one
    log_loss: float  # nats, mean over seeds
    gain: Gain | None  # over the baseline, on the same seeds and pairs; None of the baseline itself
    corrected: float | None  # the gain's p-value among all of the table
    recovered: float | None  # share of what planted flips cost the baseline that is made good
    auroc: float | None  # of the audit on the planted flips
    seconds: float  # audit, repair, training and scoring
    times: float | None  # seconds over the baseline's; None where none of it is there


def study_lines(study: Study, found: Found) -> list[Line]:
    """A line a data set, planted share, fraction and method, of the cells that are there."""
    held_out = {name: held_out_pairs(files) for name, files in study.data.items()}
    units = {name: PairFacts.of(pairs).unit() for name, pairs in held_out.items()}
    lines = list(_lines(study, found, units))
    compared = [line for line in lines if line.gain is not None]
    corrected = holm([line.gain.p_value for line in compared if line.gain is not None])
    of_line = {id(line): p_value for line, p_value in zip(compared, corrected, strict=True)}
    return [replace(line, corrected=of_line.get(id(line))) for line in lines]


def _lines(study: Study, found: Found, units: Mapping[str, Unit]) -> Iterator[Line]:
    groups: dict[tuple[str, float, float], dict[str, dict[int, Mapping[str, Any]]]] = {}
    for cell, each in found.items():
        group = groups.setdefault((cell.data, cell.planted, cell.fraction), {})
        group.setdefault(cell.method, {})[cell.seed] = each
    for (data, planted, fraction), methods in groups.items():
        base = methods.get(study.baseline, {})
        clean = groups.get((data, 0.0, fraction), {}).get(study.baseline, {}) if planted else {}
        for method, by_seed in methods.items():
            right_SB = np.stack([correct(np.array(each["gap"])) for each in by_seed.values()])
            accuracy_S = right_SB.mean(1)
            shared = [seed for seed in by_seed if seed in base]
            gain = None
            if method != study.baseline and shared:
                both = [[correct(np.array(side[seed]["gap"])) for seed in shared] for side in (by_seed, base)]
                gain = gain_over_seeds(np.stack(both[0]) - np.stack(both[1]), units[data])
            seconds = _mean_seconds(by_seed.values())
            yield Line(
                data=data,
                planted=planted,
                fraction=fraction,
                method=method,
                seeds=len(by_seed),
                accuracy=float(accuracy_S.mean()),
                deviation=float(accuracy_S.std(ddof=1)) if len(accuracy_S) > 1 else 0.0,
                log_loss=float(
                    np.mean([np.logaddexp(0, -np.array(each["gap"])).mean() for each in by_seed.values()])
                ),
                gain=gain,
                corrected=None,
                recovered=None if method == study.baseline else _recovered(by_seed, base, clean),
                auroc=_mean([each["found"].get("auroc") for each in by_seed.values()]),
                seconds=seconds,
                times=seconds / _mean_seconds(base.values()) if base else None,
            )


def _recovered(own: BySeed, base: BySeed, clean: BySeed) -> float | None:
    """The gain over what the planted flips have cost the baseline, on the seeds that are there with them and
    without; None where there is none, or they cost nothing."""
    seeds = {*own} & {*base} & {*clean}
    if not seeds:
        return None
    right, right_base, right_clean = (
        float(np.mean([correct(np.array(each[seed]["gap"])).mean() for seed in seeds]))
        for each in (own, base, clean)
    )
    return (right - right_base) / (right_clean - right_base) if right_clean > right_base else None


def markdown(study: Study, lines: Sequence[Line]) -> str:
    """The table, a reader's guide above it."""
    names = ("data", "planted", "pairs", "method", "seeds", "accuracy, %", "log loss", "gain, points [95 %]",
             "p, corrected", "recovered", "audit AUROC", "seconds", "times")  # fmt: skip
    rows = [
        f"Gains are over `{study.baseline}` on the same seeds and held-out pairs; intervals are for other "
        "seeds on other pairs; p is Holm's over all lines; plus/minus is the deviation over seeds; what is "
        "recovered is of the seeds that were run without planted flips, too.\n",
        f"| {' | '.join(names)} |",
        f"|{'---|' * len(names)}",
    ]
    for line in lines:
        gain = line.gain
        told = "-" if gain is None else (
            f"{100 * gain.value:+.2f} [{100 * gain.low:+.2f}, {100 * gain.high:+.2f}]"
        )  # fmt: skip
        cells = (
            line.data,
            f"{line.planted:.0%}",
            f"{line.fraction:.0%}",
            line.method,
            str(line.seeds),
            f"{100 * line.accuracy:.2f} ± {100 * line.deviation:.2f}",
            f"{line.log_loss:.3f}",
            told,
            "-" if line.corrected is None else f"{line.corrected:.3f}",
            "-" if line.recovered is None else f"{line.recovered:.0%}",
            "-" if line.auroc is None else f"{line.auroc:.3f}",
            f"{line.seconds:.0f}",
            "-" if line.times is None else f"{line.times:.2f}",
        )
        rows.append(f"| {' | '.join(each.replace('|', '/') for each in cells)} |")
    return "\n".join(rows) + "\n"


def console_tables(lines: Sequence[Mapping[str, Any]]) -> Iterator[Table]:
    """What of study.json's lines fits a terminal: a table for each data set, planted share and fraction."""
    for (data, planted, fraction), group in groupby(
        lines, key=lambda line: (line["data"], line["planted"], line["fraction"])
    ):
        part = "" if fraction == 1 else f", {fraction:.0%} of its pairs"
        title = f"{escape(data)}{part}, {planted:.0%} planted wrong"
        table = Table(title=title, title_justify="left")
        table.add_column("method", overflow="fold")
        for name in ("accuracy, %", "gain, points \\[95 %]", "p", "times"):
            table.add_column(name, justify="right", no_wrap=True)
        for line in group:
            gain = line["gain"]
            points = [100 * gain[name] for name in ("value", "low", "high")] if gain else None
            table.add_row(
                escape(line["method"]),
                f"{100 * line['accuracy']:.2f} ± {100 * line['deviation']:.2f}",
                "" if points is None else "{:+.2f} \\[{:+.2f}, {:+.2f}]".format(*points),
                "" if line["corrected"] is None else f"{line['corrected']:.3f}",
                "" if line["times"] is None else f"{line['times']:.2f}",
            )
        yield table


def _mean_seconds(cells: Any) -> float:
    return float(np.mean([sum(each["seconds"].values()) for each in cells]))


def _mean(values: Sequence[float | None]) -> float | None:
    there = [value for value in values if value is not None]
    return float(np.mean(there)) if there else None
