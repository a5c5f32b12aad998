"""One mixing step for all that spreads numbers over 64 bits in NumPy: hashes, draws, orders.

Enters: whole numbers. Leaves: as many, of which each bit hangs on all bits that went in; equal ones stay equal.
Compiled loops have the same step as `modalities.text_scan.mix`.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Words = npt.NDArray[np.uint64]


def mixed(state: Words) -> Words:
    """SplitMix64's finaliser (Steele, Lea and Flood 2014), uint64 of any shape; arithmetic is modulo 2**64."""
    state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return state ^ (state >> np.uint64(31))
