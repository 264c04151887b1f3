"""Films the page of `sise-ort page`: python docs/write_animation.py page.html

Writes docs/page.gif, in which a sample picture is chosen and the heat map becomes finer. Needs Pillow, a Chromium and the packages
in .node (`make test-services` installs them). The seconds at the end are left out: they belong to the machine.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
WIDTH = 720
SEEN = 745
"""Rows of the page that are kept, of a page 900 wide."""
SHOWN = {"first": 1200, "between": 900, "last": 3500}
"""Milliseconds."""

STATUS = "document.querySelector('[role=status]')"
MOMENTS = ("0 masks so far", "8 masks so far", "32 masks so far", "masks scored")


def steps(folder: Path) -> list[dict[str, object]]:
    """What tests/support/node/browse.mjs does: wait, click, take pictures."""
    found: list[dict[str, object]] = [
        {"width": 900, "wait": f"/Ready/.test({STATUS}.textContent)", "screenshot": str(folder / "0.png")},
        {"value": "document.querySelector('.sample').click()"},
    ]
    for number, words in enumerate(MOMENTS, 1):
        found.append({"wait": f"{STATUS}.textContent.includes('{words}')"})
        found.append(
            {"value": f"{STATUS}.textContent = {STATUS}.textContent.replace(/, [0-9.]+ s[.]$/, '.')"}
        )
        found.append({"screenshot": str(folder / f"{number}.png")})
    return found


def film(page: Path, target: Path) -> None:
    """Run the page and write the animation."""
    with tempfile.TemporaryDirectory() as work:
        folder = Path(work)
        (folder / "steps.json").write_text(json.dumps(steps(folder)))
        script = ROOT / ".node" / "browse.mjs"
        script.write_bytes((ROOT / "tests" / "support" / "node" / "browse.mjs").read_bytes())
        browser = os.environ.get("CHROMIUM", "/usr/bin/chromium")
        subprocess.run(
            ["node", script, page.resolve().as_uri(), folder / "steps.json"],
            cwd=ROOT / ".node", env={**os.environ, "CHROMIUM": browser}, check=True, stdout=subprocess.DEVNULL,
        )  # fmt: skip
        pictures = [Image.open(folder / f"{i}.png").convert("RGB") for i in range(len(MOMENTS) + 1)]
    frames = [
        p.crop((0, 0, p.width, SEEN))
        .resize((WIDTH, WIDTH * SEEN // p.width), Image.Resampling.LANCZOS)
        .quantize(256, method=Image.Quantize.MAXCOVERAGE)
        for p in pictures
    ]
    times = [SHOWN["first"], *[SHOWN["between"]] * (len(frames) - 2), SHOWN["last"]]
    frames[0].save(target, save_all=True, append_images=frames[1:], duration=times, loop=0, optimize=True)


if __name__ == "__main__":
    film(Path(sys.argv[1]), ROOT / "docs" / "page.gif")
