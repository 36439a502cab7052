"""outweigh train DATA --out DIR"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro

from outweigh.cli.parse import Common, OnBadRows, Shared, parse
from outweigh.training.config import TrainConfig


@dataclass(frozen=True, kw_only=True)
class Train:
    """A reward model from pairs, or from rows of K ranked responses: DIR/model and DIR/results.json."""

    data: tyro.conf.Positional[str]
    """File, folder or Hub data set to train on."""
    out: Path
    """Folder for the model, its checkpoints and results."""
    eval: str | None = None
    """Pairs to evaluate the finished model on, once."""
    resume: bool = False
    """Go on from the newest whole checkpoint in DIR, with the same data and settings."""
    on_bad_rows: OnBadRows = "error"
    """skip counts bad rows and lists them in DIR/bad_rows.jsonl."""
    settings: Annotated[TrainConfig, tyro.conf.arg(name="")] = field(default_factory=TrainConfig)
    common: Shared = field(default_factory=Common)


def main(arguments: Sequence[str]) -> None:
    """Parses and trains."""
    told = parse(Train, arguments)
    from outweigh.cli.show import cap_lines, show, show_plan, training_lines
    from outweigh.data.pairs import read_pairs
    from outweigh.evaluation.tables import evaluation_tables
    from outweigh.steps.plan import TRAINING_PASSES, planned
    from outweigh.steps.record import check_owner
    from outweigh.steps.train import train
    from outweigh.training.arguments import check_arguments
    from outweigh.training.checkpoints import check_begun
    from outweigh.training.fit import checked
    from outweigh.training.items import asked_columns

    if told.common.dry_run:
        check_owner(told.out, "train")
        check_begun(told.out, told.resume)
        if told.eval is not None:
            read_pairs(told.eval, on_bad_rows=told.on_bad_rows)
        check_arguments(told.settings)
        pairs = read_pairs(told.data, on_bad_rows=told.on_bad_rows, keep=asked_columns(told.settings))
        if told.settings.objective == "pairs":
            checked(pairs, told.settings)
        plan = planned(
            pairs,
            of=told.data,
            model=told.settings.backbone,
            tokens=told.settings.tokens,
            passes=TRAINING_PASSES * told.settings.epochs,
            layers=told.settings.layers,
            trust_remote_code=told.settings.trust_remote_code,
            writes=[f"{told.out}/model", f"{told.out}/results.json"],
        )
        return show_plan(told.common, plan)
    results = train(
        told.data,
        out=told.out,
        config=told.settings,
        eval=told.eval,
        on_bad_rows=told.on_bad_rows,
        resume=told.resume,
    )
    tables = [
        evaluation_tables(each, title=told.eval or "") for each in results.get("evaluation", {}).values()
    ]
    show(
        told.common,
        results,
        [
            *training_lines(results),
            *tables,
            *cap_lines(results["train"]["model"]),
            f"The model is in {told.out / 'model'}.",
        ],
    )
