"""Turn a template and its values into a page."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from sise_ort import __version__
from sise_ort.errors import printable
from sise_ort.pages import colors

TEMPLATES = Path(__file__).parent / "templates"


@dataclass(frozen=True)
class Figure:
    """One picture on a page, with its caption.

    Attributes
    ----------
    source : str
        Address of the picture: a quoted relative path, or a `data_uri`.
    caption : str
        What the picture shows.
    details : str
        A second line of the caption; "" for none.
    wide : bool
        Whether the picture is so wide that it takes more room.
    """

    source: str
    caption: str
    details: str = ""
    wide: bool = False


@dataclass(frozen=True)
class Section:
    """Figures that belong together, under a title."""

    title: str
    figures: tuple[Figure, ...]


def render(template: str, **values: Any) -> bytes:
    """Render a page.

    Texts among the values may come from files of people you do not know: markup is escaped, control characters and lone surrogates
    are shown as escapes.

    Parameters
    ----------
    template : str
        Name of a file in ``sise_ort/pages/templates``, such as ``"evaluation.html"``.
    **values : Any
        What the template shows; a value that it asks for and that is missing is an error.

    Returns
    -------
    bytes
        The page in UTF-8.
    """
    text = _environment().get_template(template).render(version=__version__, colors=colors, **values)
    return (text.rstrip() + "\n").encode()


def data_uri(content: bytes, kind: str = "image/jpeg") -> str:
    """Return a file's content as an address that a page can hold in itself.

    Parameters
    ----------
    content : bytes
        The file.
    kind : str
        Its media type.
    """
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def _finalize(value: Any) -> Any:
    return printable(value) if isinstance(value, str) and not isinstance(value, Markup) else value


@cache
def _environment() -> Environment:
    return Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        finalize=_finalize,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
