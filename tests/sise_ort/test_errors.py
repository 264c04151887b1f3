"""Errors in both spellings, harmless whatever the names in them, and the same after pickling."""

from __future__ import annotations

import pickle
import unicodedata

import pytest

from sise_ort import errors
from sise_ort.errors import (
    ExportError,
    Message,
    MissingDependencyError,
    OutputError,
    ParameterError,
    SiseError,
    first_line,
    on_command_line,
    option,
    options_in,
    printable,
    shortened,
)

KINDS = [e for e in vars(errors).values() if isinstance(e, type) and issubclass(e, SiseError)]


@pytest.mark.parametrize(
    ("token", "python", "flag"),
    [
        (option("layers"), "layers=", "--layers"),
        (option("batch_size"), "batch_size=", "--batch-size"),
        (option("graphs"), "graphs=", "--with"),
        (option("target_index"), "target=", "--target-index"),
        (option("deadline"), "deadline=", "--deadline-ms"),
        (option("method.masks"), "masks=", "--set masks="),
        (option("dataset.split"), "split=", "--dataset-set split="),
        (option("dataset.split", "val"), 'split="val"', "--dataset-set split=val"),
        (option("fit", "crop"), 'fit="crop"', "--fit crop"),
        (option("layers", ["a", "b"]), "layers=['a', 'b']", "--layers a,b"),
        (option("threads", 4), "threads=4", "--threads 4"),
        (option("force", True), "force=True", "--force"),
    ],
)
def test_an_option_in_both_spellings(token: str, python: str, flag: str) -> None:
    error = ExportError(f"no such block; pass {token} of others")
    assert str(error) == f"no such block; pass {python} of others"
    assert on_command_line(error) == f"no such block; pass {flag} of others"
    assert repr(error) == f"ExportError({str(error)!r})"


def test_an_error_within_another_keeps_the_spelling_open() -> None:
    inner = ParameterError(f"pass {option('input_size', 'HxW')}\nand more")
    outer = ExportError(f"model.onnx: {first_line(inner)}")
    assert str(outer) == 'model.onnx: pass input_size="HxW"'
    assert on_command_line(outer) == "model.onnx: pass --input-size HxW"


@pytest.mark.parametrize("kind", KINDS)
def test_pickling_keeps_an_error(kind: type[SiseError]) -> None:
    error = kind(f"wrong; pass {option('layers')}")
    error.picture = 3  # type: ignore[attr-defined]
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is kind and again.args == error.args and again.picture == 3
    assert on_command_line(again) == "wrong; pass --layers"


@pytest.mark.parametrize("kind", [SiseError, OutputError, MissingDependencyError])
def test_an_error_without_or_with_several_arguments(kind: type[SiseError]) -> None:
    assert str(kind()) == "" and on_command_line(kind()) == ""
    assert str(kind(28, "no space")) == "28: no space"


def test_harmful_characters_are_shown_not_sent() -> None:
    assert printable("a\x1b[31mred\x07\x9b0m") == r"a\x1b[31mred\x07\x9b0m"
    assert printable(b"caf\xe9".decode("utf-8", "surrogateescape")) == r"caf\xe9"
    assert printable("x\ud800y\udfffz") == r"x\ud800y\udfffz"
    assert printable("a\u202egnp.exe\u2066") == r"a\u202egnp.exe\u2066"
    assert printable("  one\r\n  two\tthree") == "  one two three"
    assert printable("Käse 猫 👩‍🔬 µ") == "Käse 猫 👩‍🔬 µ"  # what is only foreign stays
    everything = printable("".join(map(chr, range(0x110000))))
    assert not {unicodedata.category(c) for c in everything} & {"Cc", "Cs", "Zl", "Zp"}
    everything.encode()


def test_names_that_look_like_tokens_do_no_harm() -> None:
    for name in ("\x02", "\x03", "\x02layers\x1f{\x03", "\x02\x1f\x03", "\x02a\x02b\x03c\x03"):
        for text in (str(SiseError(f"label {name}")), on_command_line(SiseError(f"label {name}"))):
            assert text.startswith("label ") and text.isprintable()


@pytest.mark.parametrize(
    "name", ["x" * 10_000, "x y " * 2_500, "/".join(["folder"] * 2_000), "猫" * 10_000, "\x1b" * 9_000]
)
def test_a_long_name_is_cut_and_the_way_out_stays(name: str) -> None:
    error = ExportError(
        f"there is no tensor '{name}'; name others with {option('layers')} (see `sise-ort layers`)"
    )
    for text, way_out in ((str(error), "layers="), (on_command_line(error), "--layers")):
        assert len(text) <= 500
        assert text.startswith("there is no tensor '") and "…" in text
        assert text.endswith(f"name others with {way_out} (see `sise-ort layers`)")


def test_what_fits_is_not_cut() -> None:
    text = "word " * 90 + "x" * 50
    assert len(text) == 500 and shortened(text) == text and str(SiseError(text)) == text
    assert len(shortened(text + "x")) <= 500


def test_the_options_that_a_message_names() -> None:
    names = [f"a long name {'x' * 300} {i}" for i in range(9)]  # the message is cut, its options are not
    error = ExportError(f"pass {option('layers', names)} or {option('input_size')}; {option('head', 'none')}")
    assert options_in(error) == {"layers": names, "input_size": None, "head": "none"}
    assert len(str(error)) <= 500
    assert options_in(SiseError("layers=x")) == options_in(ValueError("layers=x")) == {}


def test_a_message_that_is_no_error_has_both_spellings() -> None:
    message = Message(f"note: pass {option('task', 'value')}\x1b")
    assert message == 'note: pass task="value"\\x1b' and isinstance(message, str)
    assert on_command_line(message) == "note: pass --task value\\x1b"
