"""The results as tables for a terminal."""

from collections.abc import Mapping

from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table

from outweigh.evaluation.results import Comparison, Evaluation
from outweigh.metrics.intervals import Estimate

NONE = "-"


def evaluation_tables(evaluation: Evaluation, *, title: str) -> RenderableType:
    """One model: its numbers, and by source and by length below them."""
    tables: list[RenderableType] = [models_table({"": evaluation}, title=title)]
    if evaluation.by_source:
        tables.append(_source_table(evaluation))
    tables.append(_length_table(evaluation))
    return Group(*tables)


def models_table(evaluations: Mapping[str, Evaluation], *, title: str) -> Table:
    """Several models side by side: a line a number, a column a model.

    The models must have been evaluated on the same pairs for the columns to compare.
    """
    table = Table(title=escape(title), title_justify="left", show_header=any(name for name in evaluations))
    table.add_column("")
    for name in evaluations:
        table.add_column(escape(name), justify="right")
    columns = [_lines(evaluation) for evaluation in evaluations.values()]
    for label in dict.fromkeys(label for column in columns for label in column):
        table.add_row(escape(label), *(column.get(label, NONE) for column in columns))
    return table


def comparison_table(comparison: Comparison, *, name_a: str, name_b: str) -> Table:
    """Two models: accuracies, their difference, and who is right on which pairs."""
    table = Table(title=escape(f"{name_a} against {name_b}"), title_justify="left", show_header=False)
    split = comparison.mcnemar
    for label, value in {
        f"accuracy of {name_a}": shown(comparison.accuracy_a),
        f"accuracy of {name_b}": shown(comparison.accuracy_b),
        "difference": shown(comparison.difference, signed=True),
        "interval by": _unit(comparison.difference),
        "both right": f"{split.both_right:,}",
        f"{name_a} better": f"{split.only_a:,}",
        f"{name_b} better": f"{split.only_b:,}",
        "both wrong": f"{split.both_wrong:,}",
        "both tied": f"{split.both_tied:,}",
        "McNemar p": f"{split.p_value:.2g}",
    }.items():
        table.add_row(escape(label), value)
    return table


def shown(estimate: Estimate, *, signed: bool = False) -> str:
    """`.794 [.779, .809]`, with its sign where asked; a dash where there is no value."""
    if estimate.value is None:
        return NONE
    form = "+.3f" if signed else ".3f"
    value = f"{estimate.value:{form}}"
    if estimate.low is None or estimate.high is None:
        return value
    return f"{value} [{estimate.low:{form}}, {estimate.high:{form}}]"


def _lines(evaluation: Evaluation) -> dict[str, str]:
    before, after = evaluation.calibration.before, evaluation.calibration.after
    temperature = evaluation.calibration.temperature
    lines = {
        "pairs": f"{evaluation.pairs:,}",
        "prompts": f"{evaluation.prompts:,}",
        "ties": f"{evaluation.ties:,}",
        "accuracy": shown(evaluation.accuracy),
        "longer one wins": shown(evaluation.longer_wins),
        "random": f"{evaluation.random:.3f}",
        "gain over length": shown(evaluation.gain_over_length, signed=True),
        "intervals by": _unit(evaluation.accuracy),
        "log loss": f"{before.log_loss:.3f}",
        "Brier": f"{before.brier:.3f}",
        "ECE": f"{before.ece:.3f}",
        "temperature": NONE if temperature is None else f"{temperature:.3g}",
        "log loss, fitted": NONE if after is None else f"{after.log_loss:.3f}",
        "Brier, fitted": NONE if after is None else f"{after.brier:.3f}",
        "ECE, fitted": NONE if after is None else f"{after.ece:.3f}",
        "gap, mean ± std": f"{evaluation.gap.mean:.3g} ± {evaluation.gap.std:.3g}",
    }
    for name, correlations in {**evaluation.graded, "length": evaluation.length}.items():
        lines[f"gap and {name}, Spearman"] = shown(correlations.spearman, signed=True)
        lines[f"gap and {name}, Kendall"] = shown(correlations.kendall, signed=True)
        lines[f"gap and {name}, Pearson"] = shown(correlations.pearson, signed=True)
    if (apart := evaluation.ensemble) is not None:
        lines[f"{apart.models} models, gaps' spread, median"] = f"{apart.spread['0.5']:.3g}"
        lines["disputed among them"] = shown(apart.disputed)
        lines["accuracy, not disputed"] = _shown(apart.accuracy_agreed)
        lines["accuracy, disputed"] = _shown(apart.accuracy_disputed)
        lines["spread tells mistakes, AUROC"] = shown(apart.auroc)
    return lines


def _shown(estimate: Estimate | None) -> str:
    return NONE if estimate is None else shown(estimate)


def _unit(estimate: Estimate) -> str:
    return f"{estimate.count:,} {estimate.unit}{'' if estimate.count == 1 else 's'}"


def _source_table(evaluation: Evaluation) -> Table:
    table = Table(title="by source", title_justify="left")
    table.add_column("source")
    for name in ("pairs", "accuracy", "longer one wins"):
        table.add_column(name, justify="right")
    for row in evaluation.by_source:
        table.add_row(escape(row.source), f"{row.pairs:,}", shown(row.accuracy), f"{row.longer_wins:.3f}")
    return table


def _length_table(evaluation: Evaluation) -> Table:
    table = Table(title="by length of chosen - rejected, in characters", title_justify="left")
    for name in ("from", "to", "pairs", "accuracy"):
        table.add_column(name, justify="right")
    for row in evaluation.by_length:
        table.add_row(f"{row.low:+,.0f}", f"{row.high:+,.0f}", f"{row.pairs:,}", shown(row.accuracy))
    return table
