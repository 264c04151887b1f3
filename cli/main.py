"""The command `sise-ort`. Each subcommand is a file of its own, imported only when it is called."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from typing import Any

import click

from sise_ort import __version__
from sise_ort.cli.exits import orderly

COMMANDS = {
    "export": "Turn a CNN into a bundle of ONNX graphs that predict and explain.",
    "layers": "Show a network's outputs, its blocks, and what stands in the way of an export.",
    "explain": "Explain a network's decisions on pictures with heat maps.",
    "evaluate": "Compare the quality and the price of methods on a data set.",
    "compose": "Write the whole method into one ONNX file, for any language.",
    "page": "Write a page that explains pictures in a browser.",
    "serve": "Serve bundles over HTTP, by KServe's protocols.",
    "watch": "Watch a folder, video or camera, explain rejects, and keep evidence.",
    "evidence": "List, show, export, prune and verify the records of parts.",
    "replay": "Compute a part's heat maps again, and say whether they are the same.",
    "triton": "Write a model repository for Triton Inference Server.",
    "bench": "Measure the best batch size or provider on this machine, and remember it.",
    "doctor": "Check what is installed and which providers work.",
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

    def main(  # type: ignore[override]
        self, args: Sequence[str] | None = None, prog_name: str | None = None, **settings: Any
    ) -> Any:
        """Run a command line; the one place where errors reach a user (`exits.py`)."""
        if not settings.pop("standalone_mode", True):
            return super().main(args, prog_name, standalone_mode=False, **settings)
        with orderly():
            words = sys.argv[1:] if args is None else list(args)
            if any("\0" in word for word in words):
                raise click.UsageError(
                    "a NUL character stands in the command line; no file or name holds one"
                )
            code = super().main(words, prog_name, standalone_mode=False, **settings)
            if isinstance(code, int) and code:
                raise click.exceptions.Exit(code)
        raise SystemExit(0)


@click.group(
    cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110}
)
@click.version_option(__version__, prog_name="sise-ort")
def main() -> None:
    """Export a CNN as a folder of ONNX graphs, and explain its predictions with heat maps on ONNX Runtime alone.

    \b
    sise-ort export model.onnx --normalize imagenet -o model.sise
    sise-ort explain model.sise picture.jpg -o out

    Exit codes: 0 done, 1 failed, 2 wrong usage, 70 a bug in sise-ort, 129, 130 and 143 stopped by SIGHUP, Ctrl-C and SIGTERM.
    """


if __name__ == "__main__":
    sys.exit(main())
