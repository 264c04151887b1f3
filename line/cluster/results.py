"""The folder of a run's results: a Parquet file for each task, the files of each picture, and what failed."""

from __future__ import annotations

import hashlib
import io
import json
import secrets
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from sise_ort.errors import OutputError, first_line, option
from sise_ort.files import file_name
from sise_ort.line.cluster.places import Place
from sise_ort.outputs import WRITER, to_json

RUN = "run.json"
RESULTS, FAILURES, FILES = "results", "failures", "files"
ENDING = ".parquet"


class Results:
    """Results of explaining many pictures; several processes write, each its own files.

    Parameters
    ----------
    address : str
        A folder, or the address of a store that fsspec opens.

    Notes
    -----
    A task's pictures come into ``results/TASK.parquet`` together when all of them are done. The file's name is made of the
    pictures' names, so that a task which is done again, since its worker died, replaces what it had written.
    """

    def __init__(self, address: str) -> None:
        self.place = Place(address)

    # The caller's part ------------------------------------------------------------------------------

    def begin(self, plan: Mapping[str, Any]) -> str:
        """Make the folder this run's own, and forget what failed before.

        Parameters
        ----------
        plan : mapping
            What results depend on; a folder of another plan is refused.

        Returns
        -------
        str
            The run's token: workers of an earlier run, whose token is another, write nothing more.

        Raises
        ------
        OutputError
        """
        before = self._run()
        mine: Any = json.loads(to_json(plan))
        if before is None and self.place.names(RESULTS, ENDING):
            raise OutputError(
                f"'{self.place.address}' has results without {RUN}: choose another folder with {option('out')}"
            )
        if before is not None and before.get("plan") != mine:
            other = before.get("plan")
            names = [k for k in mine if not isinstance(other, dict) or other.get(k) != mine[k]]
            raise OutputError(
                f"'{self.place.address}' has results of another {', '.join(names) or 'run'}: choose another folder with "
                f"{option('out')}"
            )
        token = secrets.token_hex(8)
        content = {"written_by": WRITER, "token": token, "plan": mine}
        self.place.write(RUN, (to_json(content, indent=2) + "\n").encode())
        for name in self.place.names(FAILURES, ENDING):
            self.place.remove(f"{FAILURES}/{name}")
        return token

    def done(self) -> set[str]:
        """Names of the pictures that have results."""
        return {row["path"] for row in self.rows(columns=["path"])}

    def rows(self, folder: str = RESULTS, columns: Sequence[str] | None = None) -> Iterator[dict[str, Any]]:
        """Yield rows of all tasks.

        Raises
        ------
        OutputError
            A file cannot be read.
        """
        import pyarrow.parquet

        for name in self.place.names(folder, ENDING):
            content = self.place.read(f"{folder}/{name}")
            if content is None:
                continue
            try:
                table = pyarrow.parquet.read_table(io.BytesIO(content), columns=columns)
            except (OSError, ValueError) as error:
                raise OutputError(
                    f"'{self.place.address}/{folder}/{name}' cannot be read ({first_line(error)}): remove it, and its "
                    "pictures are explained again"
                ) from error
            yield from table.to_pylist()

    # The workers' part ------------------------------------------------------------------------------

    def is_current(self, token: str) -> bool:
        """Whether no later run has taken the folder."""
        found = self._run()
        return found is not None and found.get("token") == token

    def has(self, task: str) -> bool:
        """Whether a task is done."""
        return self.place.read(f"{RESULTS}/{task}{ENDING}") is not None

    def write(
        self, task: str, found: Sequence[Mapping[str, Any]], failed: Sequence[Mapping[str, Any]]
    ) -> None:
        """Write what a task gave: what failed first, since a task with results is done."""
        if failed:
            self.place.write(f"{FAILURES}/{task}{ENDING}", _parquet(failed, _failure_schema()))
        if found or not failed:
            self.place.write(f"{RESULTS}/{task}{ENDING}", _parquet(found, _schema()))

    def write_files(
        self, picture: str, words: str, files: Mapping[str, bytes | memoryview], record: Mapping[str, Any]
    ) -> list[str]:
        """Write the files of a result, and return their names in the folder; the same result has the same names.

        Parameters
        ----------
        picture : str
            The picture's name in the results.
        words : str
            What the names are made of, such as ``"strip 7-scratch"``.
        files : mapping of str to bytes
            Endings and contents.
        record : mapping
            The record, written beside them.
        """
        digest = hashlib.sha256(picture.encode("utf-8", "surrogateescape")).hexdigest()
        stem = f"{FILES}/{digest[:2]}/{file_name(words)}-{digest[:12]}"
        names = [stem + ending for ending in (*files, ".json")]
        for ending, content in files.items():
            self.place.write(stem + ending, content)
        self.place.write(f"{stem}.json", (to_json({**record, "files": names}, indent=2) + "\n").encode())
        return names

    def _run(self) -> dict[str, Any] | None:
        content = self.place.read(RUN)
        if content is None:
            return None
        try:
            found = json.loads(content)
        except ValueError:
            found = None
        if not isinstance(found, dict) or found.get("written_by") != WRITER:
            raise OutputError(
                f"'{self.place.address}/{RUN}' is not sise-ort's: choose another folder with {option('out')}"
            )
        return found


def task_name(pictures: Sequence[str]) -> str:
    """The name of the task that explains some pictures."""
    digest = hashlib.sha256()
    for name in pictures:
        digest.update(name.encode("utf-8", "surrogateescape") + b"\0")
    return digest.hexdigest()[:32]


def _schema() -> Any:
    import pyarrow

    return pyarrow.schema(
        {
            "path": pyarrow.string(),
            "number": pyarrow.int32(),
            "target": pyarrow.int32(),
            "label": pyarrow.string(),
            "confidence": pyarrow.float64(),
            "score": pyarrow.float64(),
            "scores": pyarrow.list_(pyarrow.float32()),
            "map": pyarrow.binary(),
            "seconds": pyarrow.float64(),
            "files": pyarrow.list_(pyarrow.string()),
            "record": pyarrow.string(),
        }
    )


def _failure_schema() -> Any:
    import pyarrow

    return pyarrow.schema({"path": pyarrow.string(), "error": pyarrow.string()})


def _parquet(rows: Sequence[Mapping[str, Any]], schema: Any) -> bytes:
    import pyarrow
    import pyarrow.parquet

    values = [{k: _text(v) if isinstance(v, str) else v for k, v in row.items()} for row in rows]
    stream = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(values, schema=schema), stream, compression="zstd")
    return stream.getvalue()


def _text(words: str) -> str:
    """Words that UTF-8 can hold; a file name's foreign bytes become their escapes."""
    return words.encode("utf-8", "backslashreplace").decode()
