"""The tree of exceptions.

    SamEdgeError
    ├── UsageError        invalid argument: unknown variant, unsupported input size
    │   └── PromptError   invalid points, labels, boxes or mask prompts (also a ValueError)
    ├── StateError        calls in the wrong order: predict before set_image (also a RuntimeError)
    ├── PhotoError        a photo that cannot be read, is empty or is too large
    ├── DataError         training or evaluation data that are missing, invalid or too often broken
    ├── BundleError       a folder that is no bundle, or a bundle that was changed after export
    ├── CheckpointError   weights that are missing, broken, unsafe to load or of another architecture
    ├── BackendError      an engine that is not installed, or that rejects the graph, provider or input
    ├── ExportError       a conversion that failed, or an artifact that its checker rejects
    │   └── BoundError    no mixed-precision configuration reaches the required accuracy (exit code 1)
    └── OutputError       a result that cannot be written: already there, disk full, not permitted

An app catches the class that it can handle; the command line prints the message and exits with code 2. A message is one
line that names the value, the choices if there are any, and the remedy. Names from files may be part of it, so
`printable` cleans every message.
"""

from __future__ import annotations

LONGEST_MESSAGE = 2000  # characters
LONGEST_NAME = 200  # the longest name in mobile_sam.pt has 75, and two shapes may follow it


def printable(text: str, longest: int = LONGEST_MESSAGE) -> str:
    r"""Text from a file that nobody vouches for, fit for one line on a terminal.

    Args:
        text: any text: a name in a file or of a file, or an engine's message.
        longest: characters that are kept; `...` follows where more were cut off.

    Returns:
        The text without line breaks and without codes that a terminal obeys: each becomes an escape such as `\x1b`.
    """
    plain = text if text.isprintable() else "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)
    return plain if len(plain) <= longest else plain[:longest] + "..."


def short_name(name: str) -> str:
    """A name from a file in a message: `printable`, and no longer than the longest that real files have."""
    return printable(name, LONGEST_NAME)


class SamEdgeError(Exception):
    """Base class of every error that sam-edge raises on purpose.

    Attributes:
        original: the message as it was given, before `printable` cleaned it; not for a terminal.
    """

    def __init__(self, message: str = "") -> None:
        super().__init__(printable(message))
        self.original = message


class UsageError(SamEdgeError):
    """An argument that the command or function does not accept."""


class PromptError(UsageError, ValueError):
    """Points, labels, boxes or a mask input that are malformed or exceed the decoder's capacity."""


class StateError(SamEdgeError, RuntimeError):
    """A call that requires another call first."""


class PhotoError(SamEdgeError):
    """A photo that cannot be read, is empty, or is too large to be decoded safely."""


class DataError(SamEdgeError):
    """Training or evaluation data that are missing, invalid, or too often broken."""


class BundleError(SamEdgeError):
    """A folder that is no bundle, or a bundle of a newer format or changed after export."""


class CheckpointError(SamEdgeError):
    """Weights that are missing, truncated, unsafe to load, or made for another architecture."""


class BackendError(SamEdgeError):
    """An inference engine that is not installed, or that rejects the graph, the provider or the input."""


class ExportError(SamEdgeError):
    """A conversion that failed, or an artifact that its checker rejects."""


class BoundError(ExportError):
    """An accuracy bound that no tried configuration reaches. The command line exits with code 1."""


class OutputError(SamEdgeError):
    """A result that cannot be written to its destination."""


def first_line(error: Exception) -> str:
    """First line of an error's message, or its class name where the message is empty."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def missing_package(error: ImportError) -> str:
    """The name of the package that an import lacks, for a message that names the remedy.

    Raises:
        ImportError: the import that failed is of a module of sam-edge. That is a fault of sam-edge, and no package
            that somebody installs mends it.
    """
    if (error.name or "").startswith("sam_edge"):
        raise error
    return error.name or first_line(error)


def system_line(error: OSError) -> str:
    """The system's reason for an error, and the file where it names one."""
    return f"{error.strerror or error}{f' ({error.filename})' if error.filename else ''}"
