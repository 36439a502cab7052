"""M reward models trained in every layer, as published, or given by the user: their gaps on every pair."""

import logging
import shutil
from collections.abc import Iterator, Sequence
from concurrent.futures import as_completed
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from outweigh.data.pairs import PairSet
from outweigh.models.features import checkpoint_identity
from outweigh.models.reward import RewardModel
from outweigh.training.config import TrainConfig
from outweigh.training.fit import fit, identity
from outweigh.training.items import Items, items_of, some_items, swapped_items
from outweigh.training.workers import worker_processes
from outweigh.voting.scores import voters_votes
from outweigh.voting.votes import FloatArray, Votes

logger = logging.getLogger(__name__)


class Panel(NamedTuple):
    """M voters by their numbers, counted from 0, and the pairs, (B,), whose labels they learn swapped.

    `first_gap_B` are the gaps of a model trained as configured already, on these labels: of voter 0, which is
    then not trained. It may have kept a validation part from training.
    """

    numbers: Sequence[int]
    swapped_B: NDArray[np.bool_]
    first_gap_B: FloatArray | None = None


class _Voter(NamedTuple):
    """A model of a panel: its row among the votes, how it learns what, what it judges, where it is kept."""

    row: int
    config: TrainConfig
    swapped_B: NDArray[np.bool_]
    learns: NDArray[np.int64]
    judges: NDArray[np.int64]
    place: Path


def full_votes(
    pairs: PairSet,
    config: TrainConfig,
    folder: Path | None,
    panels: Sequence[Panel],
    *,
    fold_B: NDArray[np.int64] | None = None,
    jobs: int = 1,
) -> list[Votes]:
    """The votes of each panel, whose M models differ in seed: in their head's first weights and in the order
    of the pairs.

    Without folds every model trains on all pairs and votes on them (as published). With folds each voter is
    one model a fold, trained without it, that votes on its pairs alone. Finished voters lie in `folder`,
    under the hash of what they were trained on and how, and are taken from there the next time; without a
    folder none is kept. So many `jobs` are trained at once, each in a process.

    Raises:
        ConfigError: several jobs under a launcher of processes.
        TrainingError: one of them was ended from outside.

    Source: Wang et al. 2024, arXiv:2401.06080, section 2.2: M = 10, same data, shuffled order.
    """
    with nullcontext(folder) if folder else TemporaryDirectory() as kept:
        asked = [list(_voters(pairs, panel, config, fold_B, Path(kept))) for panel in panels]
        _train(pairs, [each for some in asked for each in some], jobs)
        found = []
        for panel, voters in zip(panels, asked, strict=True):
            gap_MB = np.empty((len(panel.numbers), len(pairs)))
            if panel.first_gap_B is not None:
                gap_MB[panel.numbers.index(0)] = panel.first_gap_B
            for voter in voters:
                gap_MB[voter.row, voter.judges] = _gaps(pairs, voter)
            models = tuple(str(voter.place / "model") for voter in voters) if folder else ()
            found.append(Votes(gap_MB, np.full(gap_MB.shape, fold_B is not None), models=models))
    return found


def _voters(
    pairs: PairSet, panel: Panel, config: TrainConfig, fold_B: NDArray[np.int64] | None, folder: Path
) -> Iterator[_Voter]:
    everything = np.arange(len(pairs))
    parts = [(everything, everything)]
    if fold_B is not None:
        inside = [fold_B == fold for fold in np.unique(fold_B)]
        parts = [(np.flatnonzero(~each), np.flatnonzero(each)) for each in inside]
    backbone = checkpoint_identity(config.backbone)
    learnt = [_items(pairs, panel.swapped_B, learns) for learns, _ in parts]
    for row, number in enumerate(panel.numbers):
        if number == 0 and panel.first_gap_B is not None:
            continue
        own = _own(config, number)
        for items, (learns, judges) in zip(learnt, parts, strict=True):
            # one that learnt planted labels is told from those that a user may go on to use together
            kind = "planted" if panel.swapped_B.any() else "voter"
            place = folder / f"{kind}-{identity(items, own, backbone)[:12]}"
            yield _Voter(row, own, panel.swapped_B, learns, judges, place)


def _own(config: TrainConfig, voter: int) -> TrainConfig:
    """A voter's configuration: another seed, every pair trained on, nothing published or compared."""
    private = {
        key: value for key, value in config.trainer.items() if not key.startswith(("push_to_", "hub_"))
    }
    own = replace(config, seed=config.seed + voter, trainer=private)
    return replace(own, validation=0.0, patience=None, keep="last", beside=None)


def _items(pairs: PairSet, swapped_B: NDArray[np.bool_], learns: NDArray[np.int64]) -> Items:
    return some_items(swapped_items(items_of(pairs), swapped_B), learns)


def _train(pairs: PairSet, voters: Sequence[_Voter], jobs: int) -> None:
    """Nothing; each voter is where it is kept."""
    absent = list({each.place: each for each in voters if not (each.place / "model").exists()}.values())
    if min(jobs, len(absent)) <= 1:
        for voter in absent:
            _train_voter(pairs, voter)
        return
    with worker_processes(min(jobs, len(absent))) as workers:
        for done in as_completed([workers.submit(_train_voter, pairs, voter) for voter in absent]):
            done.result()


def _train_voter(pairs: PairSet, voter: _Voter) -> None:
    logger.info("A voter is trained in %s.", voter.place)
    items = _items(pairs, voter.swapped_B, voter.learns)
    fit(items, voter.config, voter.place, resume=True, guarded=False)  # votes from there, is not handed out
    shutil.rmtree(voter.place / "checkpoints", ignore_errors=True)


def _gaps(pairs: PairSet, voter: _Voter) -> FloatArray:
    """Of the pairs that it judges, positive where it sides with the labels that it was given."""
    model = RewardModel.load(
        voter.place / "model",
        precision=voter.config.precision,
        trust_remote_code=voter.config.trust_remote_code,
    )
    chosen, rejected = model.score_pairs(pairs.select(voter.judges))
    gap: FloatArray = np.where(voter.swapped_B[voter.judges], rejected - chosen, chosen - rejected)
    return gap


def model_votes(pairs: PairSet, models: Sequence[str]) -> Votes:
    """Votes of reward models that exist, which are taken not to have been trained on the pairs."""
    gaps: list[FloatArray] = []
    for model in models:
        chosen, rejected = RewardModel.load(model).score_pairs(pairs)
        gaps.append(chosen - rejected)
    return replace(voters_votes(np.stack(gaps)), models=tuple(models))
