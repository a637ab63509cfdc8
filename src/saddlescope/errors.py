"""Every exception that a user can meet, with one way to word them.

The text is always ``<what is wrong>: <name>=<value>; expected <form>. <what to do>.`` so that one line on the
command line is enough. Each exception keeps the offending value, so that a caller can look at it; the text holds
no more of a long one than its beginning and end.
"""

from typing import Any

from saddlescope.printable import VALUE, clipped


class SaddlescopeError(Exception):
    """Base of all errors that are the fault of the input or of the environment (exit code 2)."""

    def __init__(
        self,
        what: str,
        *,
        name: str | None = None,
        value: Any = None,
        expected: str | None = None,
        advice: str | None = None,
    ) -> None:
        self.name = name
        self.value = value
        text = clipped(what, 2 * VALUE)
        if name is not None:
            text += f": {clipped(name, VALUE)}={clipped(value, VALUE)}"
        if expected is not None:
            text += f"; expected {clipped(expected, VALUE)}"
        text += "."
        if advice is not None:
            text += f" {advice}" if advice.endswith(("?", ".")) else f" {advice}."
        super().__init__(text)


UNREADABLE = (
    AttributeError,
    IndexError,
    KeyError,
    OSError,
    OverflowError,
    RecursionError,
    TypeError,
    ValueError,
)
"""What reading a document raises that is damaged, or holds other things than it should."""


class NeuronsError(SaddlescopeError):
    """A layer, neuron, pair or slice that the network does not have."""


class ShapeError(SaddlescopeError):
    """Arrays whose shapes do not fit each other, or data that does not fit the network."""


class DataError(SaddlescopeError):
    """A data set that cannot be read or used: missing, empty, truncated, not what its name says."""


class WeightsError(SaddlescopeError):
    """A weights file that cannot be read or used."""


class NonFiniteError(SaddlescopeError):
    """NaN or infinity where a finite number is needed."""


class SettingsError(SaddlescopeError):
    """An option outside its range, or options that exclude each other."""


class RecordError(SaddlescopeError):
    """A result folder that is incomplete, corrupt or of an unknown format version."""


class RecordExistsError(SaddlescopeError):
    """An output that exists already; nothing is overwritten without being asked."""


class StorageError(SaddlescopeError):
    """The disk refused: full, read-only, no permission."""


class MissingExtraError(SaddlescopeError):
    """An optional library that is not installed."""
