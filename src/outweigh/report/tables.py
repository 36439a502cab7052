"""Results as tables: rows of cells that are ready to be shown, so that the template only lays them out."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from outweigh.report.texts import (
    DASH,
    anything,
    at,
    count,
    duration,
    estimate,
    is_number,
    listed,
    number,
    percent,
    size,
)

Results = Mapping[str, Any]
MOST_ROWS = 50
"""Rows of a table whose length the data decides (sources, files)."""

READ = {
    "rows": "rows read",
    "bad_rows": "rows skipped as bad",
    "pairs": "pairs kept",
    "tied": "dropped: tied ranks",
    "empty": "dropped: empty response",
    "identical": "dropped: identical responses",
    "duplicate": "duplicate pairs",
    "contradictory": "contradictory pairs",
    "prompts": "distinct prompts",
    "texts": "distinct responses",
    "longer_chosen": "chosen is the longer one",
    "mean_chosen_characters": "mean length of chosen, characters",
    "mean_rejected_characters": "mean length of rejected, characters",
    "shared_prompts": "prompts both in training and evaluation",
    "eval_pairs_shared": "evaluation pairs whose prompt is trained on",
}
SHARES = ("longer_chosen",)
TOKENS = {
    "items": "items tokenised",
    "tokens": "tokens",
    "truncated_prompts": "prompts truncated",
    "truncated_responses": "responses truncated",
    "dropped_long": "dropped: too long",
    "dropped_identical": "dropped: identical after truncation",
}
AUDIT = {
    "method": "votes by",
    "models": "reward models",
    "folds": "folds",
    "unit": "folds by",
    "negative_share": "pairs with negative strength",
}
PLANTED = {
    "planted": "wrong labels planted",
    "found": "of these found",
    "precision": "precision",
    "recall": "recall",
    "auroc": "AUROC",
}


class Table(NamedTuple):
    """Cells by row; the first column holds the row's name, the others are figures unless `words` is set."""

    caption: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    words: bool = False


def table(
    caption: str, head: Sequence[str], rows: Iterable[Sequence[str]], *, words: bool = False
) -> Table | None:
    """The table without rows that hold nothing, or None where that leaves no row."""
    rows = [row for row in rows if any(cell != DASH for cell in row[1:])]
    return Table(caption, head, rows, words) if rows else None


def data_table(results: Results) -> Table | None:
    """What reading the data kept and dropped, training beside evaluation."""
    sets = {"training": at(results, "data"), "evaluation": at(results, "eval_data")}
    sets = {name: checks for name, checks in sets.items() if checks}
    further = {key for checks in sets.values() for key, value in checks.items() if is_number(value)}
    labels = {**READ, **{key: key.replace("_", " ") for key in sorted(further - {*READ, "dropped"})}}
    if not at(results, "eval_data"):  # without two sets nothing can be shared
        labels = {k: v for k, v in labels.items() if k not in ("shared_prompts", "eval_pairs_shared")}
    rows = [
        [label, *(_data_cell(key, checks.get(key)) for checks in sets.values())]
        for key, label in labels.items()
    ]
    head = ["", *sets] if len(sets) > 1 else ["", "count"]
    return table("What was read, kept and dropped", head, rows)


def _data_cell(key: str, value: Any) -> str:
    if key in SHARES:
        return estimate(value, per_cent=True)
    return number(value, ",.1f") if isinstance(value, float) else anything(value)


def token_table(results: Results) -> Table | None:
    """What truncation changed."""
    runs = (at(results, "train") or {}).values()
    counts = at(results, "tokens") or next((at(run, "tokens") for run in runs), None)
    rows = [[label, anything(at(counts, key))] for key, label in TOKENS.items()]
    return table("Tokens and truncation", ["", "count"], rows)


def audit_table(results: Results) -> Table | None:
    """How the audit was made, and how far it can be trusted."""
    audit = at(results, "audit") or {}
    rows = [[label, anything(audit.get(key))] for key, label in AUDIT.items() if key != "negative_share"]
    trust = audit.get("trust")
    rows += [
        ["share of wrong labels", estimate(audit.get("noise_rate"), per_cent=True)],
        [AUDIT["negative_share"], percent(audit.get("negative_share"))],
        ["AUROC on flips planted in this data", estimate(at(trust, "auroc"))],
        ["AUROC needed to repair", number(at(trust, "threshold"), ".2f")],
        ["recommendation", anything(at(trust, "recommendation"))],
    ]
    return table("The audit", ["", "value"], rows)


def planted_table(results: Results) -> Table | None:
    """What the audit found of wrong labels that were planted beforehand."""
    planted = at(results, "planted") or {}
    forms: dict[str, Callable[[Any], str]] = {"planted": count, "found": count}
    rows = [[label, forms.get(key, estimate)(planted.get(key))] for key, label in PLANTED.items()]
    return table("Against the planted flips", ["", "value"], rows)


def noise_table(results: Results) -> Table | None:
    """Share of wrong labels in each source, the largest sources first."""
    sources = listed(at(results, "audit", "by_source"))
    sources = sorted(sources, key=lambda row: -(row.get("pairs") or 0))
    rows = [
        [anything(row.get("source")), count(row.get("pairs")), estimate(row.get("noise_rate"), per_cent=True)]
        for row in sources[:MOST_ROWS]
    ]
    return table(_first("Wrong labels by source", sources), ["source", "pairs", "wrong labels"], rows)


def repair_table(results: Results) -> Table | None:
    """How many pairs each action was taken on."""
    actions = at(results, "denoise", "actions") or {}
    total = sum(value for value in actions.values() if is_number(value))
    rows = [[name, count(value), percent(value / total)] for name, value in actions.items() if value]
    return table("What was done", ["action", "pairs", "share"], rows)


def training_table(results: Results) -> Table | None:
    """Each training run in figures."""
    runs = {name: run for name, run in (at(results, "train") or {}).items() if isinstance(run, Mapping)}
    lines: dict[str, Callable[[Mapping[str, Any]], str]] = {
        "pairs": lambda run: count(run.get("pairs")),
        "pairs watched": lambda run: count(at(run, "validation", "pairs")),
        "optimizer steps": lambda run: count(run.get("steps")),
        "best step": lambda run: count(run.get("best_step")),
        "learning rate": lambda run: number(run.get("learning_rate"), ".2g"),
        "backbone": lambda run: anything(at(run, "config", "backbone")),
        "trained": lambda run: anything(at(run, "config", "method")),
        "epochs": lambda run: number(at(run, "config", "epochs"), ".3g"),
        "time": lambda run: duration(sum(filter(is_number, (run.get("seconds") or {}).values())) or None),
    }
    rows = [[label, *(cell(run) for run in runs.values())] for label, cell in lines.items()]
    return table("The training runs", ["", *runs], rows)


def alarm_table(results: Results) -> Table | None:
    """Each alarm that sounded while training, with cause and remedy."""
    rows = [
        [name, anything(at(alarm, "cause")), anything(at(alarm, "remedy")), model, count(at(alarm, "step"))]
        for model, run in (at(results, "train") or {}).items()
        for name, alarm in (at(run, "alarms") or {}).items()
    ]
    return table("Alarms", ["alarm", "cause", "remedy", "model", "step"], rows, words=True)


def evaluation_table(results: Results) -> Table | None:
    """The models side by side: a row a number, a column a model."""
    models = at(results, "evaluation") or {}

    def scores(*path: str) -> Callable[[Mapping[str, Any]], str]:
        return lambda model: number(at(model, "calibration", *path))

    lines: dict[str, Callable[[Mapping[str, Any]], str]] = {
        "accuracy": lambda model: estimate(model.get("accuracy")),
        "the longer one wins": lambda model: estimate(model.get("longer_wins")),
        "gain over length": lambda model: estimate(model.get("gain_over_length"), "+.3f"),
        "random": lambda model: number(model.get("random"), ".1f"),
        "log loss, nats": scores("before", "log_loss"),
        "log loss, fitted": scores("after", "log_loss"),
        "Brier": scores("before", "brier"),
        "Brier, fitted": scores("after", "brier"),
        "ECE": scores("before", "ece"),
        "ECE, fitted": scores("after", "ece"),
        "temperature fitted": lambda model: number(at(model, "calibration", "temperature"), ".2f"),
        "gap, mean ± std, nats": lambda model: (
            f"{number(at(model, 'gap', 'mean'), '.2f')} ± {number(at(model, 'gap', 'std'), '.2f')}"
            if at(model, "gap", "mean") is not None
            else DASH
        ),
        "ties": lambda model: count(model.get("ties")),
        "pairs": lambda model: count(model.get("pairs")),
        "prompts": lambda model: count(model.get("prompts")),
        "intervals by": lambda model: anything(at(model, "accuracy", "unit")),
    }
    rows = [[label, *(cell(model) for model in models.values())] for label, cell in lines.items()]
    return table("On held-out pairs, with 95 % intervals", ["", *models], rows)


def source_table(results: Results) -> Table | None:
    """Accuracy of each model on the pairs of each source."""
    models = at(results, "evaluation") or {}
    rows_of = {
        name: {str(row.get("source")): row for row in listed(at(model, "by_source"))}
        for name, model in models.items()
    }
    first: dict[str, Mapping[str, Any]] = {}
    for rows in rows_of.values():
        first = {**rows, **first}
    sources = sorted(first, key=lambda name: -(first[name].get("pairs") or 0))
    cells = [
        [
            source,
            count(first[source].get("pairs")),
            number(first[source].get("longer_wins")),
            *(estimate(at(rows, source, "accuracy")) for rows in rows_of.values()),
        ]
        for source in sources[:MOST_ROWS]
    ]
    head = ["source", "pairs", "longer one wins", *models]
    return table(_first("Accuracy by source", sources), head, cells)


def length_table(results: Results) -> Table | None:
    """Accuracy of each model in each quarter of the pairs by length of chosen - rejected."""
    models = at(results, "evaluation") or {}
    bands: dict[tuple[Any, Any], dict[str, Mapping[str, Any]]] = {}
    for name, model in models.items():
        for row in listed(at(model, "by_length")):
            bands.setdefault((row.get("low"), row.get("high")), {})[name] = row
    rows = [
        [
            f"{number(low, '+,.0f')} to {number(high, '+,.0f')}",
            count(next(iter(band.values())).get("pairs")),
            *(estimate(at(band, name, "accuracy")) for name in models),
        ]
        for (low, high), band in bands.items()
    ]
    head = ["chosen longer by, characters", "pairs", *models]
    return table("Accuracy by length", head, rows)


def correlation_table(results: Results) -> Table | None:
    """Gap of each model against graded preference and against length."""
    rows = [
        [f"{name}: gap and {grade}"]
        + [estimate(at(pair, kind), "+.3f") for kind in ("spearman", "kendall", "pearson")]
        for name, model in (at(results, "evaluation") or {}).items()
        for grade, pair in {**(at(model, "graded") or {}), "length": at(model, "length")}.items()
    ]
    return table("Correlations", ["", "Spearman \u03c1", "Kendall \u03c4-b", "Pearson r"], rows)


def comparison_table(results: Results) -> Table | None:
    """Two models on the same pairs: who is right where, and could it be luck."""
    comparison = at(results, "comparison") or {}
    split, (a, b) = comparison.get("mcnemar"), compared(results)
    p_value = at(split, "p_value")
    rows = [
        [f"accuracy of {a} \u2212 {b}", estimate(comparison.get("difference"), "+.3f")],
        ["both right", count(at(split, "both_right"))],
        [f"only {a} right", count(at(split, "only_a"))],
        [f"only {b} right", count(at(split, "only_b"))],
        ["both wrong", count(at(split, "both_wrong"))],
        ["McNemar's p", "< 0.0001" if is_number(p_value) and p_value < 1e-4 else number(p_value, ".2g")],
    ]
    return table(f"{a.capitalize()} against {b}, pair by pair", ["", "value"], rows)


def compared(results: Results) -> tuple[str, str]:
    """Names of the comparison's two models: it is a minus b."""
    comparison = at(results, "comparison") or {}
    return str(comparison.get("name_a", "repaired")), str(comparison.get("name_b", "plain"))


def cost_table(results: Results) -> Table | None:
    """Time of each step, and memory."""
    seconds = at(results, "seconds") or {}
    rows = [[name, duration(value)] for name, value in seconds.items()]
    if len(seconds) > 1:
        rows.append(["together", duration(sum(filter(is_number, seconds.values())))])
    rows.append(["peak memory of a process", size(at(results, "peak_memory_bytes"))])
    return table("Time and memory", ["", "value"], rows)


def machine_table(results: Results) -> Table | None:
    """The machine that the times hold for."""
    rows = [
        [
            key.removesuffix("_bytes").replace("_", " "),
            size(value) if key.endswith("_bytes") else anything(value),
        ]
        for key, value in (at(results, "machine") or {}).items()
    ]
    return table("The machine", ["", "value"], rows)


def version_table(results: Results) -> Table | None:
    """Seed and versions."""
    versions = {"outweigh": at(results, "outweigh"), **(at(results, "versions") or {})}
    rows = [["seed", anything(at(results, "seed"))], *([k, anything(v)] for k, v in versions.items())]
    return table("Seed and versions", ["", "value"], rows)


def file_table(results: Results) -> Table | None:
    """The data files and their hashes."""
    files = [file for part in ("data", "eval_data") for file in listed(at(results, part, "files"))]
    rows = [[anything(file.get("path")), anything(file.get("sha256"))] for file in files[:MOST_ROWS]]
    return table(_first("Data files", files), ["file", "sha256"], rows, words=True)


def config_table(results: Results) -> Table | None:
    """What the last training run was told, setting by setting."""
    runs = [run for run in (at(results, "train") or {}).values() if at(run, "config")]
    rows = [[key, anything(value)] for key, value in (runs[-1]["config"] if runs else {}).items()]
    return table("Settings of the training", ["setting", "value"], rows, words=True)


def _first(caption: str, rows: Sequence[Any]) -> str:
    return caption if len(rows) <= MOST_ROWS else f"{caption} (the first {MOST_ROWS} of {len(rows):,})"


TABLES: dict[str, Callable[[Results], Table | None]] = {
    "data": data_table,
    "tokens": token_table,
    "audit": audit_table,
    "planted": planted_table,
    "noise": noise_table,
    "repair": repair_table,
    "training": training_table,
    "alarms": alarm_table,
    "evaluation": evaluation_table,
    "sources": source_table,
    "lengths": length_table,
    "correlations": correlation_table,
    "comparison": comparison_table,
    "cost": cost_table,
    "machine": machine_table,
    "versions": version_table,
    "files": file_table,
    "config": config_table,
}
