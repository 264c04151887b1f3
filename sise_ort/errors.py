"""Every error that sise-ort raises on purpose: what was given, what was expected, what to do."""

from __future__ import annotations

import json
import re
from collections.abc import Callable

LONGEST = 500
"""Characters of an error's text at most."""

FLAGS = {
    "bundle": "-o",
    "dataset_options": "--dataset-set",
    "deadline": "--deadline-ms",
    "explain": "--class",
    "folder": "-o",
    "graphs": "--with",
    "inputs": "--input",
    "only_report": "--report",
    "out": "-o",
    "parameters": "--set",
}
"""Options whose flag is not their Python name with dashes."""

KEYWORDS = {"target_index": "target"}
"""Options whose Python name is not the one that `option` is given."""

_START, _END, _VALUE = "\x02", "\x03", "\x1f"  # printable() shows them where they come from a user
_TOKEN = re.compile(f"{_START}([^{_START}{_END}{_VALUE}]*)(?:{_VALUE}([^{_END}]*))?{_END}")
_HARMFUL = re.compile(
    "[\x00-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060\u2066-\u2069\ufeff\ud800-\udfff]"
)


def option(name: str, value: object = None) -> str:
    """Name a parameter inside an error's message.

    Python users read `layers=` in ``str(error)``, users of the command line `--layers` (see `on_command_line`).

    Parameters
    ----------
    name : str
        The parameter's Python name; ``"method.masks"`` is a parameter of a method (`--set masks=`), ``"dataset.split"``
        one of a data set (`--dataset-set split=`).
    value : str, number, bool, list, dict or None
        What to pass, where the message says so: ``option("fit", "crop")`` reads `fit="crop"` or `--fit crop`; a dict is
        an option that is repeated, `--input a=0 --input b=0`.

    Returns
    -------
    str
        A token; only errors of this module turn it into words.
    """
    return _START + name + ("" if value is None else _VALUE + json.dumps(value, default=str)) + _END


def printable(text: object) -> str:
    """Text in which nothing can harm a terminal, as one line.

    Control characters, escape codes, lone surrogates and marks that turn the direction of writing are shown as `\\x1b`
    or `\\u202e`; line ends and tabs become a space.
    """
    return _HARMFUL.sub(_shown, re.sub(r"\s*[\t\n\r\v\f]\s*", " ", str(text)))


def shown(value: object) -> str:
    """A value as an error shows it, in at most 100 characters.

    Whole numbers of thousands of digits, which Python refuses to write, are shown by their size.
    """
    if isinstance(value, int) and value.bit_length() > 1000:
        return f"a whole number of {value.bit_length()} bits"
    try:
        words = repr(value)
    except Exception:  # noqa: BLE001  (a class of the caller's, or numbers like the above inside a list)
        words = f"a {type(value).__name__}"
    return words if len(words) <= 100 else f"{words[:96]} …"


class Message(str):
    """A sentence that is no error, with its options spelled as Python users write them; see `on_command_line`."""

    raw: str

    def __new__(cls, text: str) -> Message:
        self = super().__new__(cls, _words(text, _keyword))
        self.raw = text
        return self

    @classmethod
    def of(cls, text: str) -> Message:
        """A text as a message; a message as it is."""
        return text if isinstance(text, Message) else cls(text)


def on_command_line(error: BaseException | Message) -> str:
    """An error's message with the command line's flags, as one harmless line of at most 500 characters."""
    return _words(raw_message(error), _flag)


def raw_message(error: BaseException | Message) -> str:
    """An error's message as it was raised, to be put into another error's message: options stay tokens."""
    if isinstance(error, Message):
        return error.raw
    return ": ".join(map(str, error.args)) if isinstance(error, SiseError) else str(error)


def options_in(error: BaseException) -> dict[str, object]:
    """The options that an error's message names, each with the value that the message says to pass, or None."""
    return {token[1]: _value(token[2]) for token in _TOKEN.finditer(raw_message(error))}


def first_line(error: BaseException) -> str:
    """The first line of an error's message: other libraries' messages run over many."""
    lines = raw_message(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


def shortened(text: str, longest: int = LONGEST) -> str:
    """Text of at most `longest` characters: first long words lose their middle, then the text does.

    An error's message begins with what is wrong and ends with the way out; both stay.
    """
    for word in (120, 60, 30):
        if len(text) <= longest:
            return text
        text = " ".join(_cut(w, word) for w in text.split(" "))
    return _cut(text, longest)


def _cut(text: str, longest: int) -> str:
    if len(text) <= longest:
        return text
    head = longest // 2
    return f"{text[:head]}…{text[len(text) - (longest - head - 1) :]}"


def _words(message: str, spelled: Callable[[str, object], str]) -> str:
    """The message as one harmless line of at most 500 characters, with its tokens spelled out."""
    return shortened(
        printable(_TOKEN.sub(lambda token: spelled(token[1], _value(token[2])), message)).strip()
    )


def _value(text: str | None) -> object:
    try:
        return None if text is None else json.loads(text)
    except ValueError:  # no token of ours but a name with its control characters
        return text


def _keyword(name: str, value: object) -> str:
    of, _, own = name.rpartition(".")
    name = own if of else KEYWORDS.get(name, name)
    return (
        f"{name}="
        if value is None
        else f"{name}={json.dumps(value, ensure_ascii=False) if isinstance(value, str) else value}"
    )


def _flag(name: str, value: object) -> str:
    of, _, own = name.rpartition(".")
    if of:
        return f"{FLAGS['dataset_options'] if of == 'dataset' else '--set'} {own}={'' if value is None else value}"
    flag = FLAGS.get(name, "--" + name.replace("_", "-"))
    if value is None or value is True:
        return flag
    if isinstance(value, dict):
        return " ".join(f"{flag} {key}={part}" for key, part in value.items())
    return f"{flag} {','.join(map(str, value)) if isinstance(value, list) else value}"


def _shown(character: re.Match[str]) -> str:
    code = ord(character[0])
    if 0xDC80 <= code <= 0xDCFF:  # a byte of a file name that is no UTF-8
        code -= 0xDC00
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"


class SiseError(Exception):
    """Base of all errors of this package; catch it to catch them all."""

    def __str__(self) -> str:
        return _words(raw_message(self), _keyword)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self)!r})"


class BundleError(SiseError):
    """A bundle is missing, damaged, foreign, half-copied or too new."""


class FrameError(SiseError, ValueError):
    """A picture or array cannot be explained: unreadable, empty, wrong shape or dtype, not finite."""


class TargetError(SiseError, ValueError):
    """The class asked for does not exist, or the head cannot answer the question."""


class NotSeenError(FrameError, TargetError):
    """The network does not see what is asked for in this picture."""


class ParameterError(SiseError, ValueError):
    """A parameter is out of its range."""


class ProviderError(SiseError, RuntimeError):
    """An execution provider was asked for and is not really in use."""


class OutOfMemoryError(ProviderError):
    """The device has no memory left for this batch."""


class ClosedError(SiseError, RuntimeError):
    """An explainer was used after it had been closed."""


class MissingDependencyError(SiseError, ImportError):
    """A package that this step needs is not installed."""


class DatasetError(SiseError):
    """A data set's folder does not have the layout of its kind, or nothing in it can be used."""


class OutputError(SiseError, OSError):
    """Results cannot be written: read-only folder, full disk, something in the way."""


class ExportError(SiseError):
    """A model cannot be turned into a bundle."""


class SourceError(ExportError):
    """The model file, name or factory cannot be loaded, or is no image classifier."""


class NoBlocksError(ExportError):
    """The network has no tensor that can serve as the output of a convolutional block."""


class GradientError(ExportError):
    """The graph cannot be differentiated between the scores and a block output."""
