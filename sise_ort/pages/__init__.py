"""HTML pages from templates: one style sheet, one colour scale, and every text escaped."""

from sise_ort.pages.rendering import Figure, Section, data_uri, render

__all__ = ["Figure", "Section", "data_uri", "render"]
