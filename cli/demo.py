"""sise-ort demo: export the built-in steel model, explain its sample strips, show what came out."""

from __future__ import annotations

import base64
import html
import json
import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

STEEL = Path(__file__).parent / "steel"
MEAN, STD = (128.0,), (64.0,)


@dataclass(frozen=True)
class Strip:
    """One sample strip, its explanation and how much of the heat map lies on the drawn defect."""

    name: str
    drawn: str
    result: Any
    mask: Any
    on_defect: float
    defect_share: float


@click.command("demo")
@click.option(
    "-o",
    "--out",
    "folder",
    default="demo-out",
    show_default=True,
    type=click.Path(file_okay=False),
    help="Folder to write.",
)
def command(folder: str) -> None:
    """Explain steel strips with the built-in model.

    Exports a small CNN (steel.onnx, in this package) to a bundle, explains sample strips with known defects,
    prints how much of each heat map lies on the defect, and writes index.html with all pictures.
    """
    import sise_ort
    from sise_ort.cli.console import print_table, progress_bar, say
    from sise_ort.explanation import write_file

    started = time.perf_counter()
    out = Path(folder)
    say("exporting steel.onnx …")
    sise_ort.export(
        STEEL / "steel.onnx",
        out / "steel.sise",
        mean=MEAN,
        std=STD,
        head="softmax",
        labels=STEEL / "labels.txt",
        force=True,
    )
    explainer = sise_ort.load(out / "steel.sise")
    strips = []
    drawn = json.loads((STEEL / "strips.json").read_text(encoding="utf-8"))
    for name, kind in drawn.items():
        with progress_bar(name) as progress:
            strips.append(_explain(explainer, name, kind, progress))
        strips[-1].result.save(out, name)
        say(f"{name}: {strips[-1].result.caption}")
    rows = [
        [
            s.name,
            s.drawn,
            s.result.caption,
            "–" if math.isnan(s.on_defect) else f"{100 * s.on_defect:.1f} %",
            "–" if math.isnan(s.on_defect) else f"{100 * s.defect_share:.1f} %",
            "–" if math.isnan(s.on_defect) else f"{s.on_defect / s.defect_share:.0f} ×",
            sum(s.result.mask_counts),
            f"{s.result.timings['total']:.1f}",
        ]
        for s in strips
    ]
    headers = [
        "strip",
        "drawn",
        "network says",
        "heat on defect",
        "defect's area",
        "ratio",
        "masks",
        "seconds",
    ]
    print_table(headers, rows, right=(3, 4, 5, 6, 7))
    page = write_file(out / "index.html", _page(strips, headers, rows).encode())
    say(f"{time.perf_counter() - started:.0f} s in all; open the page:")
    click.echo(page)


def _explain(explainer: Any, name: str, kind: str, progress: Any) -> Strip:
    from sise_ort.frame import read_frame
    from sise_ort.metrics import energy_pointing_game

    result = explainer.explain(STEEL / "strips" / f"{name}.png", progress=progress)
    mask = read_frame(STEEL / "strips" / f"{name}.mask.png")[:, :, 0] > 127
    return Strip(
        name, kind, result, mask, energy_pointing_game(result.frame_heatmap, mask), float(mask.mean())
    )


def _page(strips: list[Strip], headers: list[str], rows: list[list[Any]]) -> str:
    from sise_ort import __version__

    def cells(tag: str, values: list[Any]) -> str:
        return "".join(f"<{tag}>{html.escape(str(v))}</{tag}>" for v in values)

    table = f"<tr>{cells('th', headers)}</tr>" + "".join(f"<tr>{cells('td', row)}</tr>" for row in rows)
    sections = "".join(
        f"<section><h2>{html.escape(s.name)} <span>{html.escape(s.result.caption)}</span></h2>"
        f"<figure>{_picture(_outlined(s))}<figcaption>the strip; the drawn defect is outlined</figcaption></figure>"
        f"<figure>{_picture(s.result.overlay())}<figcaption>why “{html.escape(s.result.label)}”: "
        f"{sum(s.result.mask_counts)} masks, {s.result.timings['total']:.1f} s</figcaption></figure></section>"
        for s in strips
    )
    return f"""<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>sise-ort: why were these strips rejected?</title>
<style>
 body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 1100px; margin: 2rem auto; padding: 0 1rem; color: #1d2329; }}
 h1 {{ font-size: 1.6rem; }} h2 {{ font-size: 1.1rem; margin: 2rem 0 .5rem; }} h2 span {{ color: #5a6672; font-weight: 400; }}
 table {{ border-collapse: collapse; width: 100%; }} th, td {{ text-align: right; padding: .3rem .6rem; border-bottom: 1px solid #dde2e7; }}
 th:nth-child(-n+3), td:nth-child(-n+3) {{ text-align: left; }}
 figure {{ margin: .4rem 0; }} img {{ width: 100%; display: block; border-radius: 4px; }} figcaption {{ color: #5a6672; font-size: .85rem; }}
 .scroll {{ overflow-x: auto; }}
</style>
<h1>Why were these strips rejected?</h1>
<p>A small CNN judged each strip; SISE shows the evidence for its verdict: the redder, the stronger, and where the
strip is left in gray there is none. “Heat on defect” is the share of the heat map that lies on the defect as it was
drawn; beside it stands what a blind guess would reach, the defect's share of the strip. Evidence for “sound” has no
defect to lie on. Strips and model are synthetic. sise-ort {html.escape(__version__)}.</p>
<div class="scroll"><table>{table}</table></div>
{sections}
</html>
"""


def _outlined(strip: Strip) -> Any:
    import cv2
    import numpy as np

    from sise_ort.drawing import as_rgb

    picture = as_rgb(strip.result.frame).copy()
    around = cv2.dilate(strip.mask.astype(np.uint8), np.ones((9, 9), np.uint8))
    contours, _ = cv2.findContours(around, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    cv2.drawContours(picture, contours, -1, (64, 200, 255), 1, cv2.LINE_AA)
    return picture


def _picture(picture: Any) -> str:
    import cv2

    done, data = cv2.imencode(
        ".jpg", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 88]
    )
    if not done:
        raise click.ClickException("a picture cannot be encoded as JPEG")
    return f'<img alt="" src="data:image/jpeg;base64,{base64.b64encode(data.tobytes()).decode()}">'
