"""What a busy reader takes away: one verdict, and a handful of key figures under it."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from markupsafe import Markup

from outweigh.report.tables import Results, compared
from outweigh.report.texts import SPACE, at, count, estimate, is_number, number, percent


class Figure(NamedTuple):
    """One key figure: `tone` is good, caution, or plain, and always said in words too."""

    label: str
    value: str
    detail: str
    tone: str = "plain"


def verdict(results: Results) -> str | None:
    """The most telling sentence that the results allow, or None where they say nothing."""
    sentences = (_comparison_verdict, _audit_verdict, _evaluation_verdict, _training_verdict, _data_verdict)
    return next((sentence for tell in sentences if (sentence := tell(results))), None)


def _comparison_verdict(results: Results) -> str | None:
    difference = at(results, "comparison", "difference") or {}
    value, low, high = (difference.get(key) for key in ("value", "low", "high"))
    if not is_number(value):
        return None
    a, b = compared(results)
    points = f"{number(100 * abs(value), '.1f')}{SPACE}points of accuracy"
    if is_number(low) and low > 0:
        return f"The {a} model is better than the {b} one: it gains {points}."
    if is_number(high) and high < 0:
        return f"The {a} model is worse than the {b} one: it loses {points}. Keep the {b} one."
    return f"The {a} model and the {b} one can't be told apart on these pairs."


def _audit_verdict(results: Results) -> str | None:
    noise = at(results, "audit", "noise_rate", "value")
    advice = at(results, "audit", "trust", "recommendation")
    if advice == "keep":
        return "The audit can't tell wrong labels from right ones on this data: keep the labels as they are."
    if not is_number(noise):
        return None
    wrong = f"About {percent(noise)} of the labels look wrong"
    return f"{wrong}, and the audit can be trusted to repair them." if advice == "repair" else f"{wrong}."


def _evaluation_verdict(results: Results) -> str | None:
    for name, model in reversed((at(results, "evaluation") or {}).items()):
        accuracy, gain = at(model, "accuracy", "value"), at(model, "gain_over_length", "low")
        if not is_number(accuracy):
            continue
        sentence = f"{_model(name)} is right on {percent(accuracy)} of the held-out pairs"
        if not is_number(gain):
            return f"{sentence}."
        rule = "the rule \u201cthe longer one wins\u201d"
        return f"{sentence}, more than {rule}." if gain > 0 else f"{sentence}, not clearly more than {rule}."
    return None


def _training_verdict(results: Results) -> str | None:
    for name, run in (at(results, "train") or {}).items():
        if is_number(at(run, "pairs")):
            return f"{_model(name)} was trained on {count(run['pairs'])} pairs."
    return None


def _model(name: str) -> str:
    return "The model" if name == "model" else f"The {name} model"


def _data_verdict(results: Results) -> str | None:
    pairs = at(results, "data", "pairs")
    return f"{count(pairs)} pairs were read." if is_number(pairs) else None


def key_figures(results: Results) -> list[Figure]:
    """Pairs, wrong labels, trust, repair, accuracy and alarms, as far as they are known."""
    figures = (_pairs, _noise, _trust, _repair, _accuracy, _alarms)
    return [found for figure in figures if (found := figure(results)) is not None]


def _pairs(results: Results) -> Figure | None:
    data = at(results, "data") or {}
    if not is_number(data.get("pairs")):
        return None
    dropped = sum(data.get(key) or 0 for key in ("tied", "empty", "identical", "bad_rows"))
    rows = f"of {count(data['rows'])} rows, " if is_number(data.get("rows")) else ""
    return Figure("Pairs", count(data["pairs"]), f"{rows}{count(dropped)} dropped")


def _noise(results: Results) -> Figure | None:
    noise = at(results, "audit", "noise_rate")
    if not is_number(at(noise, "value")):
        return None
    planted, pairs = at(results, "planted", "planted"), at(results, "data", "pairs")
    known = "estimated, with its 95 % interval"
    if is_number(planted) and pairs:
        known = f"estimated; {percent(planted / pairs)} were planted"
    return Figure("Wrong labels", estimate(noise, per_cent=True), known)


def _trust(results: Results) -> Figure | None:
    trust = at(results, "audit", "trust") or {}
    auroc, threshold = at(trust, "auroc"), trust.get("threshold")
    if auroc is None and "recommendation" not in trust:
        return None
    detail = "AUROC on flips that it planted itself"
    if is_number(threshold):
        detail += f"; {number(threshold, '.2f')} is needed to repair"
    advice = trust.get("recommendation")
    if advice not in ("repair", "keep"):
        return Figure("Trust in the audit", estimate(auroc), detail)
    words, tone = ("Trusted: repair", "good") if advice == "repair" else ("Not trusted: keep", "caution")
    return Figure(words, estimate(auroc), detail, tone)


def _repair(results: Results) -> Figure | None:
    actions = at(results, "denoise", "actions") or {}
    total = sum(value for value in actions.values() if is_number(value))
    if not total:
        return None
    changed = {name: n for name, n in actions.items() if name != "keep" and n}
    if not changed:
        return Figure("Repaired", "nothing", "every pair is kept as it is")
    parts = ", ".join(f"{name} {count(n)}" for name, n in changed.items())
    altered = sum(changed.values())
    return Figure("Repaired", f"{count(altered)} pairs", f"{percent(altered / total)}: {parts}")


def _accuracy(results: Results) -> Figure | None:
    models = {
        name: model
        for name, model in (at(results, "evaluation") or {}).items()
        if at(model, "accuracy", "value")
    }
    if not models:
        return None
    a, b = compared(results)
    longer = at(next(iter(models.values())), "longer_wins", "value")
    rule = f"\u201cthe longer one wins\u201d: {number(longer)}" if is_number(longer) else ""
    if a in models and b in models:
        before, after = (number(at(models[name], "accuracy", "value")) for name in (b, a))
        gain = Markup("gain {}").format(estimate(at(results, "comparison", "difference"), "+.3f"))
        detail = Markup("{}; {}").format(rule, gain) if rule else gain
        return Figure("Accuracy", f"{before}{SPACE}\u2192{SPACE}{after}", detail, _tone(results))
    name, model = list(models.items())[-1]
    return Figure("Accuracy", estimate(model["accuracy"]), "; ".join(filter(None, (name, rule))))


def _tone(results: Results) -> str:
    difference = at(results, "comparison", "difference") or {}
    if (difference.get("low") or 0) > 0:
        return "good"
    return "caution" if (difference.get("high") or 0) < 0 else "plain"


def _alarms(results: Results) -> Figure | None:
    train: Mapping[str, Any] = at(results, "train") or {}
    if not train:
        return None
    names = [f"{alarm} ({model})" for model, run in train.items() for alarm in at(run, "alarms") or {}]
    if not names:
        return Figure("Alarms", "none", "while training", "good")
    return Figure("Alarms", count(len(names)), ", ".join(names), "caution")
