"""`outweigh select`: of K responses the kept one; with gold scores what the best of n is worth."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from outweigh.data.files import RawRow, raw_rows
from outweigh.data.pairs import Data, OnBadRows, parsed
from outweigh.data.records import Candidates, plain
from outweigh.data.rows import row_candidates
from outweigh.data.writing import check_lines_name, json_line, write_rows
from outweigh.errors import ConfigError, DataError
from outweigh.metrics.arrays import FloatArray
from outweigh.models.ensemble import load_scorer
from outweigh.models.reward import Scorer
from outweigh.report.best_of_n import draw_best_of_n
from outweigh.selection.curves import ORACLE, Candidate, best_of_n
from outweigh.servers.config import ServerConfig
from outweigh.steps.evaluate import Model, named_models
from outweigh.steps.record import check_apart, headed, peak_memory, sources, write_json
from outweigh.steps.score import CHUNK, left_out, score_groups, unless_refused

LONGEST = "the longest"


def select(
    model: Model,
    data: Data,
    *,
    out: str | Path,
    baselines: Sequence[Model] = (),
    gold_model: Model | None = None,
    candidates: int | None = None,
    on_bad_rows: OnBadRows = "error",
    seed: int = 0,
    server: ServerConfig | None = None,
) -> dict[str, Any]:
    """The results; each row of `responses` goes to `out` with the one that the model keeps.

    A row gets `rewards`, `reward_ranks` (1 the highest; equal ones in the row's order), `kept` (0-based
    place of the first) and `response` (it itself), and of several models as one `spreads`. Where rows have
    `gold`, or `gold_model` gives it, the results have the best-of-n curve of the model, beside those of the
    baselines, of keeping the longest response, and of the gold itself. They and their picture are also
    written beside `out`, as .results.json and .png. Served models are asked as `server` says.

    Raises:
        DataError: a row is not what it should be and `on_bad_rows` is error, or nothing can be written.
        ConfigError: no row has so many candidates, one model twice, or `out` is the data itself.
        ModelError: a model can't be loaded.
    """
    check_apart(Path(out), data)
    check_lines_name(Path(out))
    if candidates is not None:
        check_candidates(candidates, data, has_judge=gold_model is not None, on_bad_rows=on_bad_rows)
    named = named_models([model, *baselines])
    judges = {_apart(name): load_scorer(each, server) for name, each in named.items()}
    chooser = _Chooser(judges, None if gold_model is None else load_scorer(gold_model, server), on_bad_rows)
    rows = write_rows(out, chooser.rows(raw_rows(data)))
    results: dict[str, Any] = headed("select", seed) | {
        "data": {"files": sources(data), "rows": rows, "bad_rows": chooser.bad_rows},
        "without_gold": rows - len(chooser.given),
        "best_of_n": None,
    }
    if beside(out, ".results.json").exists():  # an earlier one's picture would stay where there is no curve
        beside(out, ".png").unlink(missing_ok=True)
    if any(len(each.gold) > 1 for each in chooser.given):
        results["best_of_n"] = best_of_n(chooser.given, candidates=candidates, seed=seed)
        draw_best_of_n(results["best_of_n"], beside(out, ".png"))
    results["peak_memory_bytes"] = peak_memory()
    write_json(beside(out, ".results.json"), results)
    return results


def check_candidates(candidates: int, data: Data, *, has_judge: bool, on_bad_rows: OnBadRows) -> None:
    """Nothing, if a row has so many responses with gold, or that a gold model will give it.

    Raises:
        ConfigError: fewer than two, or more than any row has.
        DataError: a row is not what it should be and `on_bad_rows` is error.
    """
    if candidates < 2:
        raise ConfigError(f"candidates: got {candidates}, want two or more, or the best of n has no choice.")
    most, bad = 0, list[str]()
    for raw in raw_rows(data):
        with left_out(bad, on_bad_rows):
            row = parsed(raw, _written_candidates)
            most = max(most, len(row.responses) if has_judge or row.gold is not None else 0)
    if candidates > most:
        remedy = f"Want at most {most}." if most > 1 else "Leave it out, or name a gold model."
        raise ConfigError(
            f"candidates: got {candidates}, but no row has gold for over {most} responses. {remedy}"
        )


def beside(out: str | Path, suffix: str) -> Path:
    """The file of that kind beside the rows: picks.jsonl.gz -> picks.results.json, picks.png."""
    path = Path(out)
    return path.with_name(path.name.removesuffix(".gz").removesuffix(".jsonl") + suffix)


def _apart(name: str) -> str:
    """The model's name, which is not that of a rule."""
    return f"model {name}" if name in (LONGEST, ORACLE) else name


class _Chooser:
    """Rows in, rows with the kept response out; what has gold is remembered as numbers."""

    def __init__(
        self, judges: Mapping[str, Scorer], gold_model: Scorer | None, on_bad_rows: OnBadRows
    ) -> None:
        self.judges = judges
        self.gold_model = gold_model
        self.on_bad_rows = on_bad_rows
        self.given: list[Candidate] = []
        self.bad_rows: list[str] = []
        self.kept = 0

    def rows(self, rows: Iterator[RawRow]) -> Iterator[dict[str, Any]]:
        """Each good row with what is kept of it."""
        good = self._good(rows)
        while chunk := list(islice(good, CHUNK)):
            groups = [[(each.prompt, response) for response in each.responses] for _, each in chunk]
            told = groups, self.on_bad_rows
            found = {name: score_groups(judge, *told) for name, judge in self.judges.items()}
            golds = None if self.gold_model is None else score_groups(self.gold_model, *told)
            for place, (raw, each) in enumerate(chunk):
                with left_out(self.bad_rows, self.on_bad_rows, f"{raw.origin}: "):
                    scored = {name: unless_refused(of_rows[place]) for name, of_rows in found.items()}
                    given = None if golds is None else unless_refused(golds[place])[0]
                    self._remember(each, {name: reward for name, (reward, _) in scored.items()}, given)
                    assert raw.values is not None  # parsed has refused what could not be read
                    self.kept += 1
                    yield raw.values | _kept(raw.values, *next(iter(scored.values())), given)
        if self.bad_rows and not self.kept:
            raise DataError(
                f"none of {len(self.bad_rows):,} rows can be scored. The first: {self.bad_rows[0]}"
            )

    def _good(self, rows: Iterator[RawRow]) -> Iterator[tuple[RawRow, Candidates]]:
        for raw in rows:
            with left_out(self.bad_rows, self.on_bad_rows):
                yield raw, parsed(raw, _written_candidates)

    def _remember(self, row: Candidates, rewards: dict[str, FloatArray], given: FloatArray | None) -> None:
        """Nothing; takes the gold that a model has given, or the row's own, where there is any."""
        if given is None and row.gold is None:
            return
        gold = np.array(row.gold) if given is None else given
        lengths = np.array([len(plain(response)) for response in row.responses], dtype=np.float64)
        self.given.append(Candidate(plain(row.prompt), {**rewards, LONGEST: lengths, ORACLE: gold}, gold))


def _written_candidates(values: dict[str, Any], row: int, origin: str) -> Candidates:
    """Of a row that is written again."""
    json_line(values)
    return row_candidates(values, row, origin)


def _kept(
    row: Mapping[str, Any], reward: FloatArray, spread: FloatArray | None, gold: FloatArray | None
) -> dict[str, Any]:
    order = np.argsort(-reward, kind="stable")
    ranks = np.empty(len(reward), dtype=np.int64)
    ranks[order] = np.arange(1, len(reward) + 1)
    kept = int(order[0])
    responses = row["responses"] if "responses" in row else [row["chosen"], row["rejected"]]
    found = {
        "rewards": reward.tolist(),
        "reward_ranks": ranks.tolist(),
        "kept": kept,
        "response": responses[kept],
    }
    if spread is not None:
        found["spreads"] = spread.tolist()
    return found if gold is None else found | {"gold": gold.tolist()}
