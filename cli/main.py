"""The command `sise-ort`. Each subcommand is a file of its own, imported only when it is called."""

from __future__ import annotations

import importlib
import sys
from typing import Any

import click

from sise_ort import __version__
from sise_ort.errors import ParameterError, SiseError

COMMANDS = {
    "export": "Turn a CNN into a bundle that explains itself.",
    "layers": "Show a network's candidate tensors and the chosen blocks.",
    "explain": "Explain what a bundle sees in pictures.",
    "evaluate": "Compare methods on a data set: how good, at what price.",
    "bench": "Measure the best batch size on this machine, and remember it.",
    "doctor": "Check the installation and the providers that really work.",
    "demo": "Explain steel strips with the built-in model.",
}


class LazyGroup(click.Group):
    """Knows the commands' names and one-line helps; imports a command when it is needed."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in COMMANDS:
            return None
        command: click.Command = importlib.import_module(f"sise_ort.cli.{name}").command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except ParameterError as error:
            raise click.UsageError(str(error)) from error
        except SiseError as error:
            raise click.ClickException(str(error)) from error


@click.group(
    cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110}
)
@click.version_option(__version__, prog_name="sise-ort")
def main() -> None:
    """Explain any CNN in production: ONNX graphs in, SISE heat maps out, on ONNX Runtime alone.

    \b
    sise-ort export model.onnx --normalize imagenet -o model.sise
    sise-ort explain model.sise picture.jpg -o out

    Exit codes: 0 done, 1 failed, 2 wrong usage.
    """


if __name__ == "__main__":
    sys.exit(main())
