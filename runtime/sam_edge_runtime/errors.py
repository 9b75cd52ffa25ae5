"""Every error that sam-edge raises on purpose.

One small tree, so that an app can catch what it can mend and the command line can print one line and exit with 2::

    SamEdgeError
    ├── UsageError        an argument that cannot be meant: unknown variant, odd input size
    │   └── PromptError   points, labels, boxes or mask prompts that the model cannot take (also a ValueError)
    ├── StateError        calls in the wrong order: predict before set_image (also a RuntimeError)
    ├── PhotoError        a picture that cannot be read or is not a photo
    ├── DataError         photos and masks to train or measure on that are missing, no data, or too often broken
    ├── BundleError       a folder that is no bundle, or no longer the bundle that was made
    ├── CheckpointError   weights that are missing, broken, unsafe or of another architecture
    ├── BackendError      an engine that is not installed, or does not take the model
    ├── ExportError       a conversion that failed, or whose result is not accepted
    │   └── BoundError    no mixture of precisions reaches the accuracy that was asked for (exit code 1)
    └── OutputError       a result that cannot be written: already there, no room, not permitted

Each message is one line that names the value, the choices where there are any, and the remedy.
"""

from __future__ import annotations


class SamEdgeError(Exception):
    """Root of the tree: anything that sam-edge refuses with a reason."""


class UsageError(SamEdgeError):
    """An argument outside what the command or function can take."""


class PromptError(UsageError, ValueError):
    """Points, labels, boxes or a mask input that are malformed or exceed the decoder's capacity."""


class StateError(SamEdgeError, RuntimeError):
    """A call that needs another one first."""


class PhotoError(SamEdgeError):
    """A picture that cannot be read, is empty, or is too large to be decoded safely."""


class DataError(SamEdgeError):
    """Training or evaluation data that are missing, are not what they should be, or are broken too often."""


class BundleError(SamEdgeError):
    """A folder that is no bundle, is of another format version, or was changed after it was made."""


class CheckpointError(SamEdgeError):
    """Weights that are missing, truncated, unsafe to load, or made for another architecture."""


class BackendError(SamEdgeError):
    """An inference engine that is missing, or that rejects the model, the provider or the input."""


class ExportError(SamEdgeError):
    """A conversion that failed, or an artifact that its own checker rejects."""


class BoundError(ExportError):
    """An accuracy bound that nothing which was tried reaches; the command line exits with 1, not 2."""


class OutputError(SamEdgeError):
    """A result that cannot be written where it was asked for."""


def first_line(error: Exception) -> str:
    """First line of what somebody else's error says, or its name."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def system_line(error: OSError) -> str:
    """What the system refused, and the file that it was about."""
    return f"{error.strerror or error}{f' ({error.filename})' if error.filename else ''}"
