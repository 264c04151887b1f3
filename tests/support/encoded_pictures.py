"""Pictures as encoded files, for tests of what is read."""

from __future__ import annotations

from io import BytesIO
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

NEW_OPENCV = pytest.mark.skipif(
    not hasattr(cv2, "IMWRITE_GIF_LOOP"), reason="older OpenCV reads no GIF, no animation"
)
COLOR = np.random.default_rng(2).integers(0, 256, (20, 30, 3), dtype=np.uint8)


def encoded(picture: Any, ending: str = ".png") -> bytes:
    done, data = cv2.imencode(ending, picture)
    assert done
    return data.tobytes()


def pil(image: Image.Image, form: str, **options: Any) -> bytes:
    data = BytesIO()
    image.save(data, form, **options)
    return data.getvalue()
