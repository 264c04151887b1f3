"""All kinds of data sets by name."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from sise_ort.datasets.coco import read_coco
from sise_ort.datasets.dataset import Dataset
from sise_ort.datasets.folder import read_folder
from sise_ort.datasets.imagenet import read_imagenet
from sise_ort.datasets.severstal import read_severstal
from sise_ort.datasets.voc import read_voc
from sise_ort.errors import DatasetError, ParameterError

KINDS: dict[str, Callable[..., Dataset]] = {
    "voc": read_voc,
    "coco": read_coco,
    "severstal": read_severstal,
    "imagenet": read_imagenet,
    "folder": read_folder,
}


def open_dataset(kind: str, path: str | Path, **options: Any) -> Dataset:
    """Read a data set.

    Parameters
    ----------
    kind : str
        One of `KINDS`.
    path : str or Path
        Its folder.
    **options : bool, float or str
        Those of the kind's function, such as ``split="val"``.

    Returns
    -------
    Dataset

    Raises
    ------
    ParameterError
        There is no such kind or option.
    DatasetError
        The folder has another layout, cannot be read, or holds nothing of use.
    """
    if not isinstance(kind, str) or kind not in KINDS:
        raise ParameterError(f"there is no kind of data set {kind!r}; it must be one of {', '.join(KINDS)}")
    reader = KINDS[kind]
    known = [p.name for p in inspect.signature(reader).parameters.values() if p.kind is p.KEYWORD_ONLY]
    for name in options:
        if name not in known:
            has = f"it has {', '.join(known)}" if known else "it has none"
            raise ParameterError(f"data sets of kind {kind} have no option '{name}'; {has}")
    there = False
    try:
        root = Path(path)
    except TypeError as error:
        raise DatasetError(f"the data set's folder is {path!r}; it must be a path") from error
    with suppress(OSError):  # a name that is longer than the system's
        there = root.is_dir()
    if not there:
        raise DatasetError(f"there is no folder '{root}'")
    try:
        dataset = reader(root, **options)
    except (OSError, ValueError) as error:  # folders that cannot be listed, names that cannot be
        words = (error.strerror if isinstance(error, OSError) else None) or str(error)
        raise DatasetError(f"'{getattr(error, 'filename', None) or root}' cannot be read: {words}") from error
    if not dataset.samples:
        first = f"; the first problem: {dataset.problems[0]}" if dataset.problems else ""
        raise DatasetError(f"nothing in '{root}' can be used as a data set of kind {kind}{first}")
    return dataset
