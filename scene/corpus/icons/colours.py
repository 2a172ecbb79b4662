"""Which one colour a drawing has, if it has one."""

from __future__ import annotations

import numpy as np
from PIL import Image

MIN_SHARE = 0.6  # of the opaque pixels that must have the colour
_HUES = ((10, "red"), (24, "orange"), (45, "yellow"), (110, "green"), (175, "blue"), (205, "purple"), (240, "pink"))
# upper ends, 0 to 255; above the last: red again


def colour_word(rgba: np.ndarray) -> str | None:
    """Name of the colour that most of the picture has; None for a mixture.

    Args:
        rgba: uint8 (h, w, 4).
    """
    opaque = rgba[rgba[..., 3] >= 128][:, :3]
    if len(opaque) == 0:
        return None
    hue, saturation, value = np.asarray(Image.fromarray(opaque[None]).convert("HSV"))[0].T.astype(int)
    names = np.full(len(opaque), "red", dtype="<U6")
    for upper, name in reversed(_HUES):
        names[hue <= upper] = name
    names[(names == "yellow") & (value < 150)] = "brown"
    dull_orange = (names == "orange") & ((value < 225) | (saturation < 150))
    names[dull_orange] = np.where(value[dull_orange] < 220, "brown", "")  # a pale brown has no plain name
    names[(names == "red") & (hue >= 6) & (hue <= 10) & (value < 150)] = "brown"
    grey = saturation < 45
    names[grey] = "grey"
    names[grey & (value > 215)] = "white"
    names[value < 55] = "black"
    found, counts = np.unique(names, return_counts=True)
    best = int(counts.argmax())
    return str(found[best]) or None if counts[best] >= MIN_SHARE * len(opaque) else None
