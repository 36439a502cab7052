"""Checkpoints that appear whole, are verified before use, and passed over when they are not."""

import errno
import hashlib
import json
import logging
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from transformers import Trainer
from transformers.trainer_utils import rotate_checkpoints

from outweigh.data.writing import json_value, replaced_whole
from outweigh.errors import TrainingError
from outweigh.models.loading import quiet

logger = logging.getLogger(__name__)

SEAL = "sealed.json"
STAGING = ".saving"
IDENTITY = "identity"
RECORD = "training.json"
LEAST_FREE = 2**20  # bytes; torch's file that did not fit has taken all but this


@contextmanager
def full_disk_named(folder: Path) -> Iterator[None]:
    """A block that writes below the folder, and whose failure for want of space says so.

    torch and safetensors each raise an error of their own then, without its errno.

    Raises:
        TrainingError: the disk is full.
    """
    try:
        yield
    except (OSError, RuntimeError, SafetensorError) as error:
        said = any(os.strerror(code) in str(error) for code in (errno.ENOSPC, errno.EDQUOT))
        if not said and shutil.disk_usage(folder if folder.exists() else folder.parent).free >= LEAST_FREE:
            raise
        raise TrainingError(
            f"{folder}: the disk is full. Free space and go on with --resume, or choose another place."
        ) from error


def seal(folder: Path) -> None:
    """Nothing; writes the size and sha256 of every file below the folder into `sealed.json`."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != SEAL)
    content = {str(path.relative_to(folder)): [path.stat().st_size, _sha256(path)] for path in files}
    (folder / SEAL).write_text(json.dumps(content, indent=1))


def is_whole(folder: Path) -> bool:
    """True if the folder was sealed and every sealed file still is what it was."""
    try:
        content = json.loads((folder / SEAL).read_text())
        return all(
            (folder / name).stat().st_size == size and _sha256(folder / name) == digest
            for name, (size, digest) in content.items()
        )
    except (OSError, ValueError):
        return False


def newest_whole(output: Path) -> Path | None:
    """The checkpoint with the highest step that is whole; those passed over are named in the log."""
    found = [path for path in output.glob("checkpoint-*") if path.name.removeprefix("checkpoint-").isdigit()]
    for path in sorted(found, key=lambda path: int(path.name.removeprefix("checkpoint-")), reverse=True):
        if is_whole(path):
            return path
        logger.warning("%s: incomplete or changed, passed over.", path)
    return None


def write_record(output: Path, results: dict[str, Any]) -> None:
    """Nothing; what training was like lies in `output`. It is written before what was made, which says that
    all is done."""
    with replaced_whole(output / RECORD) as record:
        record.write(json.dumps(results, indent=1, default=json_value).encode())


def read_record(output: Path) -> dict[str, Any]:
    """What the finished training there was like."""
    found: dict[str, Any] = json.loads((output / RECORD).read_text(encoding="utf-8"))
    return found


def check_begun(output: Path, resume: bool, made: str = "model") -> None:
    """Nothing, if no training has begun in `output`, or the one that has is to be gone on with; `made` is
    what it leaves there.

    Raises:
        TrainingError: that, or checkpoints, lie there.
    """
    if (output / made).exists() and not (resume and (output / RECORD).exists()):
        raise TrainingError(f"{output / made}: exists. Choose another folder, or remove it.")
    if not resume and any((output / "checkpoints").glob("checkpoint-*")):
        raise TrainingError(
            f"{output / 'checkpoints'}: are of an unfinished training. Go on with --resume, choose another "
            "folder, or remove them."
        )


def check_same_training(output: Path, identity: str, made: str) -> None:
    """Nothing, if what has begun in `output` has this identity, or nothing has; `made` is as above.

    Raises:
        TrainingError: what has begun there has another.
    """
    file = output / "checkpoints" / IDENTITY
    begun = (output / made).exists() or any(file.parent.glob("checkpoint-*"))
    if begun and not (file.exists() and file.read_text() == identity):
        raise TrainingError(
            f"{output}: holds a training on other data, from other weights or with other settings. Give "
            "those, or choose another folder."
        )


def identify(output: Path, identity: str) -> None:
    """Nothing; the training that begins in `output` is known by its identity from now on."""
    with replaced_whole(output / "checkpoints" / IDENTITY) as file:
        file.write(identity.encode())


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class WholeCheckpoints(Trainer):
    """A Trainer whose `checkpoint-N` folders appear by one rename, sealed.

    transformers writes straight into `checkpoint-N` and later takes the highest number, half-written or not.
    Here it writes below `.saving`, which nothing reads.
    """

    _saving = False

    def _get_output_dir(self, trial: Any) -> str:
        output: str = super()._get_output_dir(trial)
        return os.path.join(output, STAGING) if self._saving else output

    def _push_from_checkpoint(self, checkpoint_folder: str) -> None:
        if not self._saving:  # pushed once it is in its place
            super()._push_from_checkpoint(checkpoint_folder)

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        output = Path(self._get_output_dir(trial))
        name = f"checkpoint-{self.state.global_step}"
        staged, final = output / STAGING / name, output / name
        if self.args.should_save:
            shutil.rmtree(output / STAGING, ignore_errors=True)
        self.accelerator.wait_for_everyone()
        self._saving = True
        try:
            with quiet(), full_disk_named(output):
                super()._save_checkpoint(model, trial)
        finally:
            self._saving = False
        self.accelerator.wait_for_everyone()
        if self.state.best_global_step:
            self.state.best_model_checkpoint = str(output / f"checkpoint-{self.state.best_global_step}")
        if self.args.should_save:
            # The state was saved while the best checkpoint's path still pointed below .saving
            self.state.save_to_json(str(staged / "trainer_state.json"))
            seal(staged)
            shutil.rmtree(final, ignore_errors=True)
            staged.rename(final)
            shutil.rmtree(output / STAGING, ignore_errors=True)
            rotate_checkpoints(
                output_dir=str(output),
                save_total_limit=self.args.save_total_limit,
                best_model_checkpoint=self.state.best_model_checkpoint,
                use_mtime=False,
            )
        self.accelerator.wait_for_everyone()
        if self.args.push_to_hub:
            self._push_from_checkpoint(str(final))
