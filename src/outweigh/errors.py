"""Every error a user can meet, as one tree.

    OutweighError
    ├── DataError       a file, row or column is not what it should be
    ├── ConfigError     an option is unknown, out of range, or does not go with another
    ├── ModelError      a checkpoint, tokenizer or bundled weight can't be used as it is
    ├── TrainingError   training can't go on, or must not
    ├── ServerError     a server that is asked does not answer, or not as it should
    ├── ShapeError      tensors that must be one value a pair are not
    └── MissingExtra    an optional package is not installed

Each message reads `where: what is wrong, got X, want Y. What to do.`
"""

import errno


class OutweighError(Exception):
    """Anything the user can mend. The command line prints its message alone and exits with 2."""


class DataError(OutweighError, ValueError):
    """A file, a row or a column is not what it should be."""


class ConfigError(OutweighError):
    """An option is unknown, out of range, or does not go with another."""


class ModelError(OutweighError):
    """A checkpoint, a tokenizer or a bundled weight can't be used as it is."""


class TrainingError(OutweighError):
    """Training can't go on, or must not."""


class ServerError(OutweighError):
    """A server that is asked does not answer, or not as it should."""


class ServerRefusal(ServerError):
    """A server will not answer this prompt, though it may answer others."""


class ShapeError(OutweighError, ValueError):
    """Tensors that must hold one value a pair do not."""


class MissingExtra(OutweighError, ImportError):
    """An optional package is not installed."""


def what_to_do(error: OSError) -> str:
    """What mends a file that can't be written, or read."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return "Free some space or name another place."
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return "Ask for the right to it or name another place."
    return "Name another place."
