"""Outputs never replace a picture, a foreign file or one another; the same command again replaces only its own."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import textwrap
import unicodedata
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

import sise_ort
from sise_ort.cli.main import main
from sise_ort.errors import OutputError
from sise_ort.files import write_file
from sise_ort.outputs import NUMBERS_READ, OutputFolder, to_json
from sise_ort.pages import render

# The folder alone -----------------------------------------------------------------------------------


def save(outputs: OutputFolder, words: str, identity: Any, text: str = "x") -> str:
    """Write a result; its name."""
    files = outputs.write_result(
        words, identity, {"text": text}, {".png": text.encode(), ".npy": text.encode()}
    )
    assert [f.suffix for f in files] == [".png", ".npy", ".json"]
    assert len({f.stem for f in files}) == 1
    for file in files[:2]:
        assert file.read_text() == text
    record = json.loads(files[2].read_text())
    assert record["text"] == text and record["output"]["files"] == [f.name for f in files[:2]]
    return files[2].stem


@pytest.mark.parametrize(
    ("words", "stems"),
    [
        (["a", "a", "a-1"], ["a", "a-2", "a-1"]),
        (["a", "a", "a-2"], ["a", "a-2", "a-2-2"]),
        (["a-2", "a", "a"], ["a-2", "a", "a-3"]),
        (["+1", "-1", "1"], ["1", "1-2", "1-3"]),
        (["☃", "🦆", "…"], ["frame", "frame-2", "frame-3"]),
        (["x-crane", "x-crane"], ["x-crane", "x-crane-2"]),
        (["a/b", "a\\b", "a b"], ["a-b", "a-b-2", "a-b-3"]),
        (["Strip", "strip", "STRIP"], ["Strip", "strip-2", "STRIP-3"]),
        (["straße", "STRASSE"], ["straße", "STRASSE-2"]),
        ([unicodedata.normalize(f, "é") for f in ("NFC", "NFD")], ["é", "é-2"]),
        (["../x", "x", "../../x"], ["x", "x-2", "x-3"]),
        (["aux", "nul"], ["_aux", "_nul"]),
    ],
)
def test_names_are_made_safe_and_then_numbered(tmp_path: Path, words: list[str], stems: list[str]) -> None:
    outputs = OutputFolder(tmp_path / "out")
    assert [save(outputs, w, i, str(i)) for i, w in enumerate(words)] == stems
    again = OutputFolder(tmp_path / "out")
    assert [save(again, w, i, f"again {i}") for i, w in enumerate(words)] == stems
    assert len(list((tmp_path / "out").iterdir())) == 3 * len(words)
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize("letter", ["a", "é", "𝒳"])
def test_long_names_stay_distinct(tmp_path: Path, letter: str) -> None:
    outputs = OutputFolder(tmp_path)
    stems = [save(outputs, f"{letter * 300}{i}{letter * 300}", 0 if i < 9 else 1) for i in range(12)]
    assert len(set(stems)) == 12
    longest = letter * 10_000
    for number in range(12):
        stem = save(outputs, longest, ["same name", number])
        assert len(f"{stem}.json".encode()) <= 255


def test_the_same_twice_in_one_run_is_kept_twice(tmp_path: Path) -> None:
    for _ in range(2):
        outputs = OutputFolder(tmp_path)
        assert [save(outputs, "a", "same") for _ in range(3)] == ["a", "a-2", "a-3"]
    assert len(list(tmp_path.iterdir())) == 9


@pytest.mark.parametrize("ending", [".png", ".npy", ".json", ".PNG", ".Json"])
@pytest.mark.parametrize("kind", ["file", "link", "dangling", "folder", "fifo"])
def test_foreign_files_stay(tmp_path: Path, ending: str, kind: str) -> None:
    foreign, target = tmp_path / "out" / f"a{ending}", tmp_path / "precious"
    foreign.parent.mkdir()
    target.write_text("precious")
    if kind == "file":
        foreign.write_text("{}")
    elif kind == "folder":
        foreign.mkdir()
    elif kind == "fifo":
        os.mkfifo(foreign)
    else:
        foreign.symlink_to(target if kind == "link" else tmp_path / "nothing")
    before = foreign.lstat()
    assert save(OutputFolder(foreign.parent), "a", 1) == "a-2"
    assert save(OutputFolder(foreign.parent), "a", 1) == "a-2"
    after = foreign.lstat()
    assert (before.st_ino, before.st_mtime_ns, before.st_size) == (
        after.st_ino,
        after.st_mtime_ns,
        after.st_size,
    )
    assert target.read_text() == "precious" and not (tmp_path / "nothing").exists()


@pytest.mark.parametrize(
    "change",
    [
        lambda out: (out / "a.png").rename(out / "b.png") and (out / "a.png").symlink_to(out / "b.png"),
        lambda out: (out / "a.json").write_text("not JSON"),
        lambda out: (out / "a.json").write_text("[" * 100_000),
        lambda out: (out / "a.json").write_text('{"output": {"written_by": "somebody"}}'),
        lambda out: (out / "a.json").write_text('{"output": 3}'),
        lambda out: (out / "a.json").unlink(),
        lambda out: (out / "a.json").write_text((out / "a.json").read_text().replace("a.png", "z.png")),
        lambda out: (out / "A.NPY").write_text("foreign"),
        lambda out: (out / "a.png").write_text("edited"),
        lambda out: (out / "a.json").write_text((out / "a.json").read_text().replace('"sha256"', '"other"')),
    ],
)  # fmt: skip
def test_what_no_longer_looks_like_ours_stays(tmp_path: Path, change: Any) -> None:
    assert save(OutputFolder(tmp_path), "a", 1) == "a"
    change(tmp_path)
    before = {p: (p.lstat().st_ino, p.read_bytes()) for p in tmp_path.iterdir()}
    assert save(OutputFolder(tmp_path), "a", 1) == "a-2"
    assert all((p.lstat().st_ino, p.read_bytes()) == content for p, content in before.items())


def test_a_result_that_lost_a_file_is_made_whole(tmp_path: Path) -> None:
    save(OutputFolder(tmp_path), "a", 1)
    (tmp_path / "a.npy").unlink()
    assert save(OutputFolder(tmp_path), "a", 1, "new") == "a"
    assert len(list(tmp_path.iterdir())) == 3


def test_files_of_other_formats_stay_and_are_replaced_when_they_are_asked_for_again(tmp_path: Path) -> None:
    def write(*endings: str) -> dict[str, Any]:
        *files, record = OutputFolder(tmp_path).write_result(
            "a", 1, {}, {ending: f"{ending} of {endings}".encode() for ending in endings}
        )
        assert [f.name for f in files] == [f"a{ending}" for ending in endings]
        output = json.loads(record.read_text())["output"]
        assert output["files"] == [f.name for f in files]
        for file in files:
            assert file.read_text() == f"{file.suffix} of {endings}"
        return dict(output["earlier"])

    assert write(".png", ".npy") == {}
    assert list(write(".png", ".npz")) == ["a.npy"]
    assert list(write(".jpg")) == ["a.npy", "a.png", "a.npz"]
    assert (tmp_path / "a.npy").read_text() == ".npy of ('.png', '.npy')"
    (tmp_path / "a.npz").unlink()
    assert list(write(".npy")) == ["a.png", "a.jpg"]
    (tmp_path / "a.png").write_text("edited")
    (record,) = OutputFolder(tmp_path).write_result("a", 1, {}, {".png": b"new"})[1:]
    assert record.name == "a-2.json" and (tmp_path / "a.png").read_text() == "edited"


def test_a_result_whose_writing_was_cut_short_is_made_whole(tmp_path: Path) -> None:
    save(OutputFolder(tmp_path), "a", 1, "old")
    save(OutputFolder(tmp_path), "a", 1, "new")
    (tmp_path / "a.npy").write_text("old")  # as a kill between two renames leaves it
    assert save(OutputFolder(tmp_path), "a", 1, "newest") == "a"
    assert len(list(tmp_path.iterdir())) == 3


def test_inputs_that_are_earlier_outputs_stay(tmp_path: Path) -> None:
    save(OutputFolder(tmp_path), "a", 1)
    (tmp_path / "link").symlink_to(tmp_path / "a.png")
    for inputs in (["a.png"], ["link"], ["none", "a.png"], ["../" + tmp_path.name + "/a.npy"]):
        outputs = OutputFolder(tmp_path, [tmp_path / name for name in inputs])
        before = (tmp_path / "a.png").read_bytes()
        assert save(outputs, "a", 1, "new") == "a-2"
        assert (tmp_path / "a.png").read_bytes() == before


def test_thousands_of_one_name(tmp_path: Path) -> None:
    for number in range(1, 1501):
        (tmp_path / ("a.png" if number == 1 else f"a-{number}.png")).touch()
    assert save(OutputFolder(tmp_path), "a", 1) == "a-1501"
    assert save(OutputFolder(tmp_path), "a", 1) == "a-1502"  # too far behind to be looked for
    assert NUMBERS_READ < 1500


def test_a_folder_that_changes_meanwhile(tmp_path: Path) -> None:
    outputs = OutputFolder(tmp_path)
    assert save(outputs, "a", 1) == "a"
    write_file(tmp_path / "B.png", b"foreign")
    assert save(outputs, "b", 2) == "b-2"
    assert save(OutputFolder(tmp_path), "b", 3) == "b-3"
    assert save(outputs, "b", 4) == "b-4"


def test_pages(tmp_path: Path) -> None:
    shop = '<meta name="keywords" content="sise-ort"><title>my shop</title>'
    (tmp_path / "index.html").write_text(shop)
    ours = render("demo.html", title="Strips", table=([], []), strips=[], origin="", narrowest=100)
    for _ in range(2):
        path = OutputFolder(tmp_path).write_page("index", ".html", ours)
        assert path.name == "index-2.html" and path.read_bytes() == ours
    assert (tmp_path / "index.html").read_text() == shop


def test_folders_that_cannot_be(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for name in ("file", "file/below", "a\0b"):
        with pytest.raises(OutputError, match="cannot write into"):
            OutputFolder(tmp_path / name).prepare()
        with pytest.raises(OutputError, match="cannot write into"):
            save(OutputFolder(tmp_path / name), "a", 1)
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_json_that_every_reader_takes() -> None:
    found = to_json({"a": [math.nan, 1.5, (math.inf,)], "b": "\udc80é", "c": Path("x")})
    assert found == '{"a": [null, 1.5, [null]], "b": "\\udc80é", "c": "x"}'
    assert json.loads(found)["b"] == "\udc80é"


WRITER = """
    import sys
    from sise_ort.outputs import OutputFolder
    for number in range(25):
        who = f"{sys.argv[2]} {number}"
        OutputFolder(sys.argv[1]).write_result("a", who, {"who": who}, {".png": who.encode(), ".npy": who.encode()})
"""


def test_four_processes_in_one_folder(tmp_path: Path) -> None:
    command = [sys.executable, "-c", textwrap.dedent(WRITER), str(tmp_path)]
    several = [subprocess.Popen([*command, who]) for who in "wxyz"]
    assert [process.wait() for process in several] == [0, 0, 0, 0]
    records = [json.loads(p.read_text()) for p in tmp_path.glob("*.json")]
    assert {r["who"] for r in records} == {f"{who} {n}" for who in "wxyz" for n in range(25)}
    for record in records:
        assert {(tmp_path / name).read_text() for name in record["output"]["files"]} == {record["who"]}
    assert len(list(tmp_path.iterdir())) == 300


# The command ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory, make_tiny: Any) -> Path:
    """The tiny network with labels that differ in signs only, and two classes of one name."""
    import onnx

    folder = tmp_path_factory.mktemp("signs")
    onnx.save(make_tiny(), folder / "tiny.onnx")
    labels = ["+/crane", "-crane", "crane 🦆", "crane 🦆"]
    sise_ort.export(folder / "tiny.onnx", folder / "tiny.sise", normalize="tf", labels=labels, head="softmax")
    return folder / "tiny.sise"


def pictures(folder: Path, names: Iterable[str], frame: Any) -> list[Path]:
    import cv2

    found = []
    for number, name in enumerate(names):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        done, data = cv2.imencode(".png", frame + number)
        assert done
        path.write_bytes(data.tobytes())
        found.append(path)
    return found


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


NAMES = {
    "one name in two folders": ["a/x.png", "b/x.png"],
    "two endings": ["x.png", "x.bmp", "x.jpg"],
    "a stem that ends in -1": ["a/x.png", "b/x.png", "x-1.png"],
    "a stem that ends in -2": ["a/x.png", "b/x.png", "x-2.png"],
    "stripped signs": ["+1.png", "-1.png", "1.png"],
    "stripped emoji": ["🦆.png", "☃.png", "frame.png"],
    "spaces": ["a b.png", "a-b.png", "a  b.png"],
    "upper and lower case": ["x/Strip.png", "y/strip.png"],
    "Unicode forms": ["a/e\u0301.png", "b/\u00e9.png"],
    "long names": ["n" * 240 + "1.png", "n" * 240 + "2.png"],
    "long names of two bytes a letter": ["é" * 120 + "1.png", "é" * 120 + "2.png"],
    "names that are no UTF-8": ["a\udc80.png", "a\udc81.png"],
    "hidden": [".png", "x/.x.png"],
    "line ends and escape codes": ["a\nb.png", "a\x1b[31mb.png"],
    "our endings": ["x.json.png", "x.npy.png", "x.png.png"],
}


@pytest.mark.parametrize(
    ("case", "out"),
    [(c, "pictures") for c in NAMES] + [("a stem that ends in -2", o) for o in ("out", "link", ".")],
)
def test_explain_never_replaces(
    case: str, out: str, bundle: Path, frame: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "pictures")
    given = pictures(tmp_path / "pictures", NAMES[case], frame)
    monkeypatch.chdir(tmp_path)
    before = contents(tmp_path)
    arguments = [
        "explain",
        str(bundle),
        *map(str, given),
        "-o",
        out,
        "--provider",
        "cpu",
        "--mu",
        "0.9",
        "--json",
    ]
    listings = []
    for _ in range(2):
        done = CliRunner().invoke(main, arguments)
        assert done.exit_code == 0, done.output
        after = contents(tmp_path)
        assert {k: after[k] for k in before} == before
        assert len(after) == len(before) + 3 * len(given)
        records = [json.loads(line) for line in done.stdout.splitlines()]
        files = [f for record in records for f in record["files"]]
        assert len(set(files)) == 3 * len(given) and all(Path(f).is_file() for f in files)
        listings.append(files)
    assert listings[0] == listings[1]


def test_classes_of_one_name_keep_two_records(bundle: Path, frame: Any, tmp_path: Path) -> None:
    (picture,) = pictures(tmp_path, ["x.png"], frame)
    targets = [word for index in range(4) for word in ("--target-index", str(index))]
    for _ in range(2):
        done = CliRunner().invoke(
            main, ["explain", str(bundle), str(picture), "-o", str(tmp_path / "out"), *targets]
        )
        assert done.exit_code == 0, done.output
        records = sorted((tmp_path / "out").glob("*.json"))
        assert sorted(json.loads(p.read_text())["target"] for p in records) == [0, 1, 2, 3]


def test_save_numbers_like_the_command(bundle: Path, frame: Any, tmp_path: Path) -> None:
    explainer = sise_ort.load(bundle, provider="cpu")
    first, second = explainer.explain(frame, 0), explainer.explain(frame + 1, 0)
    assert [r.save(tmp_path, "../x")[2].name for r in (first, second, first)] == [
        "x.json",
        "x-2.json",
        "x.json",
    ]
    assert [r.save(tmp_path)[0].name for r in (first, second)] == ["frame-crane.png", "frame-crane-2.png"]
    other = explainer.explain(frame, 0, mu=0.5)
    assert other.save(tmp_path, "x")[0].name == "x-3.png"  # the same picture, another question
    assert {p.parent for p in tmp_path.rglob("*") if p.is_file()} == {tmp_path}


def test_leftovers_of_a_killed_run_are_removed(bundle: Path, frame: Any, tmp_path: Path) -> None:
    (picture,) = pictures(tmp_path, ["x.png"], frame)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / ".sise-ort-0123456789abcdef.part").write_text("half")
    done = CliRunner().invoke(main, ["explain", str(bundle), str(picture), "-o", str(tmp_path / "out")])
    assert done.exit_code == 0, done.output
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["x.json", "x.npz", "x.png"]
