from __future__ import annotations

import numpy as np

from sise_ort.drawing import as_rgb, captioned, encode_png, overlay


def test_overlay_leaves_cold_pixels_alone_and_reddens_hot_ones() -> None:
    frame = np.full((20, 30, 1), 100, np.uint8)
    heatmap = np.zeros((20, 30), np.float32)
    heatmap[5:10, 5:10] = 1
    picture = overlay(frame, heatmap)
    assert picture.shape == (20, 30, 3)
    assert (picture[heatmap == 0] == 100).all()
    hot = picture[7, 7].astype(int)
    assert hot[0] > hot[1] + 30 and hot[0] > hot[2] + 30


def test_float_frames_are_rounded() -> None:
    assert as_rgb(np.array([[[1.6, -5.0, 300.0]]], np.float32)).tolist() == [[[2, 0, 255]]]


def test_captions_fit_any_width_and_words() -> None:
    for width in (5, 40, 300, 2000):
        for words in ("cat · 3.2 %", "ä" * 300 + " · 99.9 %", "strip 7", "", "缺陷 · 5 %"):
            picture = captioned(np.zeros((30, width, 3), np.uint8), words)
            assert picture.shape[1] >= max(width, 360) and picture.shape[2] == 3
            assert encode_png(picture).startswith(b"\x89PNG")


def test_caption_draws_something() -> None:
    picture = captioned(np.zeros((30, 400, 3), np.uint8), "scratch · 98.2 %")
    assert (picture[30:] > 200).any()
