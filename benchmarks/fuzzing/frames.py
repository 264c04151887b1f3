"""Arrays that are given as frames: every type, shape, value, layout; and what is no array."""

from __future__ import annotations

from typing import Any

import numpy as np

from fuzzing.cases import NASTY, Place, case, judge_result
from fuzzing.samples import frame

AREA = "frames"
DTYPES = (
    "uint8",
    "uint8",
    "uint8",
    "int8",
    "uint16",
    "int32",
    "int64",
    "float16",
    "float32",
    "float64",
    "bool",
    "complex64",
    "U3",
    "O",
    "M8[s]",
    "V4",
)


@case(AREA, 3)
def any_array(place: Place) -> None:
    rng = place.rng
    dimensions = rng.choice((0, 1, 2, 2, 3, 3, 3, 3, 4, 5))
    shape = [rng.choice((0, 1, 2, 31, 32, 48, 64)) for _ in range(dimensions)]
    if dimensions >= 3 and rng.random() < 0.8:
        shape[-1] = rng.choice((1, 3, 3, 3, 4, 2))
    values = place.numbers.integers(0, 256, shape)
    try:
        array = values.astype(rng.choice(DTYPES))
    except (TypeError, ValueError):
        array = values
    judge_result(place.explainer().explain(array))


@case(AREA, 2)
def any_values(place: Place) -> None:
    rng = place.rng
    array = frame(place.numbers, 32, 48).astype(rng.choice((np.float32, np.float64, np.int32)))
    change = rng.randrange(7)
    if change == 0:
        array = array / 255
    elif change == 1:
        array -= 300
    elif change == 2:
        array *= 1000
    elif change == 3 and array.dtype.kind == "f":
        array[rng.randrange(32), rng.randrange(48)] = rng.choice((np.nan, np.inf, -np.inf))
    elif change == 4:
        array[:] = rng.choice((0, 255, 256, -1))
    elif change == 5 and array.dtype.kind == "f":
        array[:] = np.nan
    judge_result(
        place.explainer(rng.choice(("tiny", "sigmoid"))).explain(array, rng.choice((None, 0, "bee", [0, 1])))
    )


@case(AREA, 2)
def any_layout(place: Place) -> None:
    """Views: turned, stepped, read-only, masked, of another byte order; far larger than their memory."""
    array: Any = frame(place.numbers, 64, 96)
    change = place.rng.randrange(10)
    if change == 0:
        array = array[::-1, ::-2]
    elif change == 1:
        array = np.asfortranarray(array)
    elif change == 2:
        array.flags.writeable = False
    elif change == 3:
        array = np.ma.masked_less(array, 100)
    elif change == 4:
        array = array.astype(">u2")
    elif change == 5:
        array = np.broadcast_to(array[:1, :1], (place.rng.choice((5000, 10**6)), 10**6, 3))
    elif change == 6:
        array = memoryview(array)
    elif change == 7:
        array = array.tolist()
    elif change == 8:
        array = np.broadcast_to(array[:, :1], (64, 4000, 3))
    else:
        array = array.view(np.recarray)
    judge_result(place.explainer().explain(array))


@case(AREA, 1)
def nothing_like_it(place: Place) -> None:
    judge_result(place.explainer().explain(place.rng.choice(NASTY)))


@case(AREA, 1)
def many(place: Place) -> None:
    """Several frames, some of them bad: each good one has its result."""
    from sise_ort import FrameError

    frames = [
        place.rng.choice(
            (frame(place.numbers, 32, 48), place.rng.choice(NASTY), np.zeros((0, 3, 3), np.uint8))
        )
        for _ in range(4)
    ]
    results = list(place.explainer().explain_many(frames, errors="return"))
    assert len(results) == len(frames)
    for one in results:
        if isinstance(one, FrameError):
            assert str(one)
        else:
            judge_result(one)


@case(AREA, 1)
def odd_sizes(place: Place) -> None:
    """Sizes that no screen has; drawn and saved as well."""
    rng = place.rng
    height, width = rng.choice(
        ((1, 1), (1, 4000), (4000, 1), (1, 10_000), (2, 2), (3, 20_000), (33, 47), (3000, 3000), (70_000, 1))
    )
    result = place.explainer().explain(np.broadcast_to(frame(place.numbers, 1, 1), (height, width, 3)).copy())
    judge_result(result)
    result.save(place.out, "odd")
