"""Checks of a map as numbers, and the verdict that they give together."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest

from sise_ort.verdicts import (
    CHECKS,
    Verdict,
    black_margin,
    border_share,
    hot_share,
    share_outside,
    verdict_of,
)

SOUND = {"drop": 0.8, "keep": 0.9, "off_part": 0.0, "hot": 0.1, "border": 0.0}


def test_shares_of_a_map_with_round_numbers() -> None:
    heatmap = np.zeros((20, 40))
    heatmap[0, 0], heatmap[10, 20], heatmap[10, 21] = 1.0, 2.0, 1.0  # a corner, and two pixels in the middle
    assert border_share(heatmap) == pytest.approx(1 / 4)  # the border is 1 row and 2 columns wide
    assert hot_share(heatmap) == pytest.approx(3 / 800)
    part = np.zeros((20, 40), bool)
    part[10, 20] = True
    assert share_outside(heatmap, part) == pytest.approx(1 / 2)
    even = np.ones((20, 40))
    assert border_share(even) == pytest.approx(1 - (18 * 36) / 800) and hot_share(even) == 1
    empty = np.zeros((20, 40))
    assert border_share(empty) == hot_share(empty) == share_outside(empty, part) == 0


def test_only_black_that_reaches_the_edge_is_background() -> None:
    frame = np.full((6, 8, 3), 100, np.uint8)
    frame[:, :2] = 10
    frame[3, 5] = 0  # a hole in the part
    frame[0, 7] = (0, 0, 11)  # dark blue
    wanted = np.zeros((6, 8), bool)
    wanted[:, :2] = True
    assert np.array_equal(black_margin(frame), wanted)
    assert not black_margin(np.full((6, 8, 1), 11.0, np.float32)).any()


def test_every_check_that_judges_says_why() -> None:
    assert verdict_of(SOUND).trust == "sound"
    for name, check in CHECKS.items():
        if check.least is None and check.most is None:
            assert not check.doubt
            continue
        bad = 0.0 if check.least is not None else (check.most or 0) + 0.01
        verdict = verdict_of({**SOUND, name: bad})
        assert verdict.trust == "weak" and f"{100 * bad:.0f} %" in verdict.reason
    assert verdict_of({**SOUND, "drop": 0.0, "keep": 0.0}).trust == "none"
    assert verdict_of({**SOUND, "keep": 0.0012}).reason.count("0.12 %") == 1


def test_limits_themselves_hold() -> None:
    for check in CHECKS.values():
        for limit in (check.least, check.most):
            assert limit is None or check.holds(limit) is True


def test_nothing_in_a_map_is_no_trust() -> None:
    for hot, word in ((0.0, "empty"), (1.0, "flat")):
        verdict = verdict_of({**SOUND, "hot": hot})
        assert verdict.trust == "none" and word in verdict.reason


def test_a_check_that_could_not_be_made_is_no_failure_but_nothing_is_sound_without_one() -> None:
    assert verdict_of({**SOUND, "off_part": None, "agreement": None}).trust == "sound"
    unbounded = verdict_of({**SOUND, "drop": None})
    assert unbounded.trust == "weak" and "not tested" in unbounded.reason


def test_a_verdict_is_json_and_back() -> None:
    verdict = verdict_of(SOUND)
    assert set(verdict.checks) == set(CHECKS)
    assert msgspec.json.decode(msgspec.json.encode(verdict), type=Verdict) == verdict
    assert verdict.record()["checks"]["drop"] == 0.8 and verdict.record()["checks"]["agreement"] is None
    with pytest.raises(msgspec.ValidationError):
        msgspec.json.decode(b'{"trust": "perfect"}', type=Verdict)
    assert Verdict().words == "not checked"
