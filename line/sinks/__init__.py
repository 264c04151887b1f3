"""Sinks: who is told about each part, at least once and in order, whatever happens in between."""

from sise_ort.line.sinks.delivery import Delivery, Sink

__all__ = ["Delivery", "Sink"]
