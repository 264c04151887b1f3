from __future__ import annotations

import cv2
import numpy as np
import pytest

from sise_ort.drawing import as_rgb, captioned, encode_jpeg, encode_png, framed, overlay
from sise_ort.errors import OutputError


def test_overlay_leaves_cold_pixels_alone_and_reddens_hot_ones() -> None:
    frame = np.full((20, 30, 1), 100, np.uint8)
    heatmap = np.zeros((20, 30), np.float32)
    heatmap[5:10, 5:10] = 1
    picture = overlay(frame, heatmap)
    assert picture.shape == (20, 30, 3)
    assert (picture[heatmap == 0] == 100).all()
    hot = picture[7, 7].astype(int)
    assert hot[0] > hot[1] + 30 and hot[0] > hot[2] + 30


def test_overlay_is_the_mixture_of_frame_and_colour(rng: np.random.Generator) -> None:
    level = np.arange(256, dtype=np.uint8).repeat(40).reshape(64, 160)
    heat, frame = level / 255.0, rng.integers(0, 256, (64, 160, 3), dtype=np.uint8)
    shades = np.rint(60 + 195 * heat).astype(np.uint8)
    colors = cv2.applyColorMap(shades, cv2.COLORMAP_TURBO)[:, :, ::-1].astype(float)
    weight = (0.65 * np.minimum(heat * 1.6, 1))[:, :, None]
    drawn = overlay(frame, heat.astype(np.float32))
    # three numbers are rounded to whole ones
    assert np.abs(drawn - (frame * (1 - weight) + colors * weight)).max() <= 1.5 + 1e-9
    gray = overlay(frame[:, :, :1].astype(np.float32), heat.astype(np.float32))
    np.testing.assert_array_equal(gray, overlay(frame[:, :, :1].repeat(3, 2), heat.astype(np.float32)))


def test_jpeg_is_the_picture_at_the_quality_asked_for() -> None:
    rows, columns = np.mgrid[0:120, 0:160]
    picture = np.stack([rows * 2, columns, 255 - rows - columns // 2], 2).clip(0, 255).astype(np.uint8)
    sizes = []
    for quality, error in ((90, 2.0), (30, 6.0)):
        data = encode_jpeg(picture, quality)
        read = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)[:, :, ::-1]
        assert np.abs(read.astype(int) - picture).mean() < error
        sizes.append(len(data))
    assert sizes[0] > sizes[1]
    assert encode_jpeg(picture[:, ::-1], 90) == encode_jpeg(picture[:, ::-1].copy(), 90)
    with pytest.raises(OutputError, match="70000 × 1 pixels cannot be encoded as JPEG"):
        encode_jpeg(np.zeros((70_000, 1, 3), np.uint8))


def test_the_border_of_a_region_is_white_beside_black_and_leaves_its_inside_alone() -> None:
    picture = np.full((60, 80, 3), 100, np.uint8)
    region = np.zeros((60, 80), bool)
    region[20:40, 30:60] = True
    drawn = framed(picture, region)
    assert (picture == 100).all()
    assert (drawn[20, 30:60] == 255).all() and (drawn[20:40, 59] == 255).all()
    assert (drawn[19, 31:59] == 0).all() and (drawn[21, 32:58] == 0).all()
    assert (drawn[23:37, 33:57] == 100).all() and (drawn[:18] == 100).all()
    assert (framed(picture, np.zeros((60, 80), bool)) == 100).all()


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


def test_a_sentence_below_the_caption_takes_three_lines_at_most() -> None:
    bare = captioned(np.zeros((30, 400, 3), np.uint8), "scratch · 98.2 %")
    heights = []
    for words in (
        "sound",
        "weak: " + "many words " * 5,
        "weak: " + "many words " * 200,
        "\x1b[31m" + "x" * 9000,
    ):
        picture = captioned(np.zeros((30, 400, 3), np.uint8), "scratch · 98.2 %", words)
        assert np.array_equal(picture[: bare.shape[0]], bare) and (picture[bare.shape[0] :] > 200).any()
        assert not (picture[:, -2:] > 200).any()  # no letter runs out of the picture
        heights.append(picture.shape[0] - bare.shape[0])
    one = heights[0]
    assert one < heights[1] <= heights[2] == 3 * one and heights[3] <= 3 * one


@pytest.mark.parametrize(
    "size", [(4000, 1), (10_000, 1), (1, 4000), (1, 10_000), (1, 1), (70_000, 2), (3, 2000)]
)
def test_odd_shapes_are_drawn_small(size: tuple[int, int]) -> None:
    frame = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    drawn = captioned(overlay(frame, np.ones(size, np.float32)), "cat · 3 %")
    assert drawn.shape[1] >= 360 and drawn.shape[0] * drawn.shape[1] < 30_000_000
    assert encode_png(drawn).startswith(b"\x89PNG")


@pytest.mark.parametrize(
    "words", ["a\ud800b", "\udc80", "a\0b", "\x1b[31mred", "🦆" * 50, "\u202eright", "\n", "x" * 10_000]
)
def test_any_label_can_be_drawn(words: str) -> None:
    picture = captioned(np.zeros((30, 400, 3), np.uint8), f"{words} · 98.2 %")
    assert picture.shape[1] == 400 and (picture[30:] > 200).any()


def test_long_captions_keep_their_numbers() -> None:
    from sise_ort import drawing

    whole = "a long label that goes on and on · 98.2 %"
    for room in (60, 120, 200, 300, 10_000):
        words = drawing._fitting(whole, room, 15)
        assert words.endswith(" · 98.2 %")
        assert (
            words == whole
            if room == 10_000
            else drawing._text_width(words, 15) <= max(room, drawing._text_width("… · 98.2 %", 15))
        )


def test_strips_give_what_the_whole_gives(monkeypatch: pytest.MonkeyPatch) -> None:
    from sise_ort import drawing

    rng = np.random.default_rng(0)
    frame, heatmap = rng.integers(0, 256, (37, 11, 3), dtype=np.uint8), rng.random((37, 11), np.float32)
    whole = overlay(frame, heatmap)
    monkeypatch.setattr(drawing, "STRIP", 50)
    np.testing.assert_array_equal(overlay(frame, heatmap), whole)


def test_what_cannot_be_drawn_is_one_error(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(OutputError, match=r"cannot be encoded as PNG|cannot be drawn"):
        encode_png(np.zeros((1_000_001, 1, 3), np.uint8))

    def refuse(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr("cv2.applyColorMap", refuse)
    with pytest.raises(OutputError, match="not enough memory"):
        overlay(np.zeros((3, 3, 3), np.uint8), np.zeros((3, 3), np.float32))
