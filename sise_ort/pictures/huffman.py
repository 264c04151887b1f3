"""Whether the coded data of a baseline JPEG holds exactly the blocks of its picture.

A decoder fills what is missing with gray, skips what is too much, and says nothing. Here only the lengths of the codes are
followed (ITU-T T.81, F.2.2), several codes at a step, without computing a pixel.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache

import numpy as np

Table = tuple[bytes, bytes]
"""A Huffman table: how many codes of 1 to 16 bits there are, and the symbols in order."""
Block = tuple[Table, Table]
"""The tables of a block's first coefficient and of the others."""

_RESTART = re.compile(rb"\xff+[\xd0-\xd7]")
_PADDING = 2300
"""Bytes behind the data: no coded unit is longer."""
_END = 128
"""Added to a block's place by the code for its end."""
_INVALID = 1024
SPARE = 2
"""Bytes that may be left at the end of a part; some cameras write a few."""


def find_damage(data: bytes, units: int, interval: int, blocks: Sequence[Block]) -> str:
    """Follow the codes of a scan.

    Parameters
    ----------
    data : bytes
        The coded data, with stuffed zeros and restart markers.
    units : int
        How many coded units (MCU) the scan has.
    interval : int
        Units between restart markers; 0 without any.
    blocks : sequence of (table, table)
        The blocks of a unit.

    Returns
    -------
    str
        What is wrong, in words; empty where the data is whole.
    """
    try:
        tables = [(_first(dc), *_others(ac)) for dc, ac in blocks]
    except ValueError:
        return "its code tables are not whole"
    for part in _RESTART.split(data) if interval else [data]:
        if units <= 0:  # some encoders write a restart marker at the very end
            break
        words = _follow(part.replace(b"\xff\x00", b"\xff"), min(units, interval or units), tables)
        if words:
            return words
        units -= interval or units
    return "a part of its data is missing" if units > 0 else ""


def _follow(data: bytes, units: int, tables: Sequence[tuple[list[int], list[int], list[int]]]) -> str:
    values = np.frombuffer(data + bytes(_PADDING), np.uint8).astype(np.uint32)
    window = (values[:-2] << 16 | values[1:-1] << 8 | values[2:]).tolist()  # three bytes from each place on
    place, end = 0, 8 * len(data)
    for _ in range(units):
        for first, several, single in tables:
            step = first[window[place >> 3] >> (8 - (place & 7)) & 0xFFFF]
            if not step:
                return "its data holds codes that do not exist"
            place += step
            k = 1
            while True:
                at = window[place >> 3] >> (8 - (place & 7)) & 0xFFFF
                step = several[at]
                k += step >> 6
                if k < 64:
                    place += step & 63
                    continue
                if k > 64 and not _END <= k < _END + 64:  # the block ends between these codes
                    k -= step >> 6
                    step = single[at]
                    k += step >> 6
                    if k > 64 and not _END <= k < _END + 64:
                        return "its data holds codes that do not exist"
                place += step & 63
                if k >= 64:
                    break
        if place > end:
            return "a part of its data is missing"
    rest = data[(place + 7) // 8 :]
    if len(rest) > SPARE and len(set(rest)) > 1:
        return "its data has more blocks than its picture"
    return ""


def _codes(table: Table) -> list[tuple[int, int, int]]:
    """First 16-bit word, length and symbol of every code, in order.

    Raises
    ------
    ValueError : the table has more codes than there are.
    """
    counts, symbols = table
    found, code, number = [], 0, 0
    for length in range(1, 17):
        for _ in range(counts[length - 1]):
            if number >= len(symbols) or code >> length:
                raise ValueError("not a code table")
            found.append((code << (16 - length), length, symbols[number]))
            code, number = code + 1, number + 1
        code <<= 1
    return found


@lru_cache(maxsize=8)
def _first(table: Table) -> list[int]:
    """Bits of the first coefficient, by the next 16 bits; 0 where they begin with no code."""
    bits = np.zeros(1 << 16, np.int64)
    for word, length, symbol in _codes(table):
        bits[word : word + (1 << (16 - length))] = length + (symbol & 15)
    return bits.tolist()


@lru_cache(maxsize=8)
def _others(table: Table) -> tuple[list[int], list[int]]:
    """Bits, and 64 times the coefficients, of as many codes as stand whole in the next 16 bits, and of one code."""
    bits = np.zeros(1 << 16, np.int64)
    places = np.full(1 << 16, _INVALID, np.int64)
    for word, length, symbol in _codes(table):
        run, size = symbol >> 4, symbol & 15
        covered = slice(word, word + (1 << (16 - length)))
        bits[covered] = length + size
        places[covered] = run + 1 if size else 16 if run == 15 else _END
    single = (bits + 64 * places).tolist()
    words = np.arange(1 << 16)
    together, reached = bits.copy(), places.copy()
    for _ in range(4):
        following = words << np.minimum(together, 16) & 0xFFFF
        more = (reached < 64) & (together + bits[following] <= 16) & (places[following] < _INVALID)
        reached += np.where(more, places[following], 0)
        together += np.where(more, bits[following], 0)
    return (together + 64 * reached).tolist(), single
