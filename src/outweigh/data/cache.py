"""What can be computed again, kept on disk; a folder that appears whole or not at all."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def cache_folder() -> Path:
    """Where everything that can be computed again is kept: $OUTWEIGH_CACHE, else ~/.cache/outweigh."""
    return Path(os.environ.get("OUTWEIGH_CACHE") or Path.home() / ".cache" / "outweigh")


@contextmanager
def appearing_whole(folder: Path) -> Iterator[Path]:
    """A new folder to write in, which becomes `folder` by one rename once the block ends without an error.

    Whoever is killed in the middle leaves `folder` as it was. Where another process made it first, that one
    is kept.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    unfinished = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}-"))
    unfinished.chmod(0o755)  # mkdtemp's folders are private; this one is to be read like any other
    try:
        yield unfinished
        for file in unfinished.glob("*.safetensors"):  # as private, of the library that writes them
            file.chmod(0o644)
        try:
            unfinished.rename(folder)
        except OSError:
            if not folder.is_dir():
                raise
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
