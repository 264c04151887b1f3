"""sise-ort serve BUNDLE…"""

from __future__ import annotations

import click

from sise_ort.cli.options import (
    Number,
    batch_size_option,
    precision_option,
    provider_option,
    threads_option,
    untrusted_option,
)

MIB = 1 << 20


@click.command("serve")
@click.argument("bundles", nargs=-1, required=True, metavar="BUNDLE…")
@click.option(
    "--host",
    default="127.0.0.1",
    show_default=True,
    help="Address to listen on; any but this machine's own needs a token.",
)
@click.option(
    "--port",
    type=click.IntRange(0, 65_535),
    default=8080,
    show_default=True,
    help="Port to listen on; 0 takes any that is free.",
)
@click.option(
    "--token-file",
    type=click.Path(),
    help="File with the bearer token that requests must bear [the environment variable SISE_ORT_TOKEN].",
)
@click.option(
    "--workers",
    type=click.IntRange(1, 256),
    default=1,
    show_default=True,
    help="Number of processes; each loads the bundles.",
)
@click.option(
    "--queue",
    type=click.IntRange(1, 100_000),
    default=64,
    show_default=True,
    help="Number of pictures that may wait for each bundle; more are answered with 429.",
)
@click.option(
    "--max-upload-mib",
    type=Number(0, 4096, above=True),
    default=32,
    show_default=True,
    help="Largest body of a request, in MiB.",
)
@click.option(
    "--max-megapixels",
    type=Number(0, 134, above=True),
    default=33,
    show_default=True,
    help="Largest picture, in millions of pixels.",
)
@click.option(
    "--max-memory-mib",
    type=Number(0, 1 << 20, above=True),
    default=1024,
    show_default=True,
    help="Most MiB of uploads and decoded pictures to hold at once; what is over is answered with 429.",
)
@click.option(
    "--upload-seconds",
    type=Number(0, 86_400, above=True),
    default=20,
    show_default=True,
    help="Longest time that a request's headers, and then its body, may take to arrive.",
)
@click.option(
    "--request-seconds",
    type=Number(0, 86_400, above=True),
    default=300,
    show_default=True,
    help="Longest time of a request; what takes longer is answered with 504.",
)
@click.option(
    "--exact",
    is_flag=True,
    help="Let no two requests share a batch: slower, and bit for bit what a call alone gives.",
)
@provider_option
@precision_option
@untrusted_option
@batch_size_option
@threads_option
def command(bundles: tuple[str, ...], host: str, port: int, token_file: str | None, workers: int, queue: int,
            max_upload_mib: float, max_megapixels: float, max_memory_mib: float, upload_seconds: float, request_seconds: float,
            exact: bool,
            provider: str, precision: str, untrusted: bool, batch_size: int | None, threads: int | None) -> None:  # fmt: skip
    """Serve bundles over HTTP, by KServe's protocols and with a page to drop a picture on.

    A BUNDLE is a folder, or NAME=FOLDER to serve it under another name. The server ends with SIGTERM or Ctrl-C, after
    what it has begun, with exit code 0. Needs the extra `serve`; docs/serving.md lists the addresses.

    \b
    sise-ort serve strips.sise
    sise-ort serve strips.sise road=detector.sise --port 9000
    sise-ort serve strips.sise --host 0.0.0.0 --token-file token.txt
    """
    import os

    from sise_ort.cli.console import say
    from sise_ort.errors import MissingDependencyError

    try:
        from sise_ort.line.server.models import Options, named
        from sise_ort.line.server.running import Place, address_of, listen, run, write_log
        from sise_ort.line.server.settings import TOKEN_VARIABLE, Settings, read_token, require_token
    except ImportError as error:
        if (error.name or "").startswith("sise_ort"):
            raise
        raise MissingDependencyError(
            f"`sise-ort serve` needs the package {error.name}: pip install 'sise-ort[serve]'"
        ) from error

    token = read_token(token_file, os.environ.pop(TOKEN_VARIABLE, None))
    require_token(host, token)
    settings = Settings(
        queue=queue,
        max_upload=max(1, int(max_upload_mib * MIB)),
        max_pixels=max(1, int(max_megapixels * 1e6)),
        max_memory=max(1, int(max_memory_mib * MIB)),
        upload_seconds=upload_seconds,
        request_seconds=request_seconds,
        exact=exact,
    )
    options = Options(named(bundles), provider, batch_size, threads, not untrusted, precision)
    place = Place(host, port, token, workers)
    listening = listen(place)
    write_log()
    say(f"serving {', '.join(options.bundles)} at {address_of(listening)}")
    run(options, settings, place, listening)
