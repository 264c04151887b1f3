"""What the command line's own types and words accept, refuse and say."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import click
import cv2
import pytest
from click.testing import CliRunner

from sise_ort.cli.main import COMMANDS, main
from sise_ort.cli.options import Names, Number, Numbers, method_parameters, pairs
from sise_ort.errors import ParameterError, on_command_line


def test_numbers() -> None:
    assert Numbers().convert("1, 2.5,3e1", None, None) == (1.0, 2.5, 30.0)
    for text in ("", "1,", "a", "nan", "1,inf", "1;2"):
        with pytest.raises(click.BadParameter, match="not a list of numbers"):
            Numbers().convert(text, None, None)


def test_names_are_counted_once() -> None:
    assert Names().convert(" b, a ,b,", None, None) == ["b", "a"]
    assert Names().convert("", None, None) == []
    with pytest.raises(click.BadParameter, match="holds no name"):
        Names().convert(" , ", None, None)


@pytest.mark.parametrize("text", ["nan", "inf", "-inf", "0", "1", "1e400", "", "x", "0x1"])
def test_a_number_outside_its_bounds(text: str) -> None:
    with pytest.raises(click.BadParameter, match=r"is not a number in \(0, 1\)"):
        Number(0, 1, above=True, below=True).convert(text, None, None)


def test_a_number_within_its_bounds() -> None:
    assert Number(0, 1).convert("0", None, None) == 0.0
    assert Number(0, 1).convert("1", None, None) == 1.0
    assert Number(0, 1, above=True, below=True).convert("1e-300", None, None) == 1e-300


def test_pairs() -> None:
    assert pairs(["a=1", "b = c=d "], "--set") == {"a": "1", "b": "c=d"}
    assert pairs(["a=1", "a=1"], "--set") == {"a": "1"}
    for words, message in (
        (["a"], "NAME=VALUE is needed"),
        (["=3"], "NAME=VALUE is needed"),
        (["a=1", "a=2"], "gives a twice: 1 and 2; keep one of them"),
    ):
        with pytest.raises(ParameterError, match=message):
            pairs(words, "--set")


def test_a_contradiction_is_refused() -> None:
    assert method_parameters("sise", ["mu=0.3"], {"mu": 0.3, "passes": None}) == {"mu": 0.3}
    assert method_parameters("rise", ["masks=10"]) == {"masks": 10}
    with pytest.raises(ParameterError) as caught:
        method_parameters("sise", ["mu=0.5"], {"mu": 0.3})
    assert on_command_line(caught.value).startswith("--mu and --set mu= contradict each other (0.3 and 0.5)")


@pytest.mark.parametrize("name", list(COMMANDS))
def test_every_help_text_is_a_sentence_on_its_own(name: str) -> None:
    command: click.Command = importlib.import_module(f"sise_ort.cli.{name}").command
    commands = [command, *(command.commands.values() if isinstance(command, click.Group) else ())]
    texts: dict[str, Any] = {
        p.opts[-1]: p.help
        for one in commands
        for p in one.params
        if isinstance(p, click.Option) and p.name != "help"
    }
    for flag, text in texts.items():
        assert text and text[0].isupper(), flag
        assert text.rstrip("].").strip() and text[-1] in ".])", f"{flag}: {text}"
        first = text.split()[0]
        assert first not in ("Of", "From", "Which", "What", "How", "And", "Or", "With"), f"{flag}: {text}"
        assert "so many" not in text and ", or:" not in text, f"{flag}: {text}"


@pytest.mark.parametrize("words", [["--threads", str(10**9)], ["--threads", "0"], ["--rounds", str(10**9)]])
def test_absurd_numbers_are_wrong_usage(words: list[str]) -> None:
    result = CliRunner().invoke(main, ["bench", "nothing.sise", *words])
    assert result.exit_code == 2 and "is not in the range" in result.stderr


@pytest.mark.parametrize(
    ("words", "message"),
    [(["--mu", "2"], "--mu is '2'; it must be a number in [0, 1)"),
     (["--passes", "-1"], "--passes"),
     (["--tolerance", "0"], "--tolerance"),
     (["--method", "rise", "--set", "masks=0"], "--set masks= is 0; it must be a whole number from 1"),
     (["--method", "rise", "--set", "masks=many"], "method rise: --set masks= is 'many', not a whole number"),
     (["--method", "gradcam", "--set", "block=9"], "--set block= is 9; the bundle has blocks 1 to")],
)  # fmt: skip
def test_parameters_of_methods_are_named_as_options(
    tiny_bundle: Path, tmp_path: Path, frame: Any, words: list[str], message: str
) -> None:
    cv2.imwrite(str(tmp_path / "a.png"), frame)
    call = [
        "explain",
        str(tiny_bundle),
        str(tmp_path / "a.png"),
        "-o",
        str(tmp_path / "out"),
        "--provider",
        "cpu",
        *words,
    ]
    result = CliRunner().invoke(main, call)
    assert result.exit_code in (1, 2) and message in result.stderr, result.stderr
