"""Picture files: what their headers say, and their pixels."""

from sise_ort.pictures.decoding import Decoded, decode
from sise_ort.pictures.headers import FORMATS, Header, read_header
from sise_ort.pictures.opening import read_bytes, read_stream
from sise_ort.pictures.size import MAX_PIXELS, check_size

__all__ = [
    "FORMATS",
    "MAX_PIXELS",
    "Decoded",
    "Header",
    "check_size",
    "decode",
    "read_bytes",
    "read_header",
    "read_stream",
]
