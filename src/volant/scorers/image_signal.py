"""Are the outputs as sharp as real pictures, and is their detail of the same sizes? No judge is needed.

Outputs and references enter, pictures of one size. `sharpness` takes the variance of the Laplacian
(Pech-Pacheco et al. 2000), the geometric mean over each set, and from both means the smaller over the larger:
1 is as sharp as real, 0.5 is half or twice as sharp, higher is better; the note says which. `spectrum` takes
each set's mean power by spatial frequency and gives the root mean squared difference in decibels: 0 is the same
spectrum, lower is better. Values an example are the jackknife's pseudo-values.

Shape legend: N pictures, H height, W width, K rings of equal frequency.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from volant.core.errors import DataError
from volant.core.protocols import Output
from volant.core.sample import Sample
from volant.core.score import Direction, Score
from volant.scorers.images import Floats, grey, samples_of, usual_size
from volant.scorers.jackknife import clipped, pseudo_values
from volant.scorers.judging import Picturing

_FLAT = (1 / 255) ** 2  # variance of the Laplacian: one step of brightness; a blank picture counts as that
_SILENT = 1e-8  # power: far below one step of brightness


class Signalling(Picturing):
    """What both have in common: grey pictures of one size."""

    least = 3

    def pair(self, pictures: Sequence[Sample], references: Sequence[Sample]) -> tuple[Floats, Floats]:
        """Brightness of both sets [N, H, W].

        Raises:
            DataError: the pictures are too small.
        """
        size = usual_size(references)
        if min(size[:2]) < 4:
            raise DataError(
                f"pictures of {size[1]} x {size[0]} pixels have no detail to measure.",
                where=self.name, fix="Leave this scorer out for such pictures.",
            )  # fmt: skip
        return grey(pictures, size), grey(references, size)


class Sharpness(Signalling):
    """See the module."""

    name = "sharpness"
    ladder = "fidelity"
    note = "1: as sharp as the references"

    def measured(self, pictures: Sequence[Sample], references: Sequence[Sample]) -> list[float]:
        """Pseudo-values."""
        apart_N = self._apart(pictures, references)
        n, total = len(apart_N), float(apart_N.sum())
        return pseudo_values(float(np.exp(-abs(total / n))), np.exp(-np.abs((total - apart_N) / (n - 1))))

    def score(self, outputs: Sequence[Output], references: Sequence[Sample]) -> list[Score]:
        """The figure, with how many times as sharp as the references in the note."""
        found = clipped(super().score(outputs, references), low=0.0, high=1.0)
        times = float(np.exp(self._apart(samples_of(outputs, self.name), references).mean()))
        note = f"{self.note}; the outputs' detail is {times:.3g} times theirs"
        return [s.model_copy(update={"note": note}) for s in found]

    def _apart(self, pictures: Sequence[Sample], references: Sequence[Sample]) -> Floats:
        """log of an output's over its reference's variance of the Laplacian [N]."""
        made_NHW, real_NHW = self.pair(pictures, references)
        apart: Floats = np.log(laplacian_variance(made_NHW)) - np.log(laplacian_variance(real_NHW))
        return apart


def laplacian_variance(bright_NHW: Floats) -> Floats:
    """The variance of the four-neighbour Laplacian inside each picture, one step of brightness or more [N]."""
    middle = bright_NHW[:, 1:-1, 1:-1]
    around = bright_NHW[:, :-2, 1:-1] + bright_NHW[:, 2:, 1:-1] + bright_NHW[:, 1:-1, :-2] + bright_NHW[:, 1:-1, 2:]
    variance: Floats = (around - 4 * middle).var(axis=(1, 2))
    return np.maximum(variance, _FLAT)


class Spectrum(Signalling):
    """See the module."""

    name = "spectrum"
    unit = "dB"
    direction: Direction = "lower"
    ladder = "fidelity"
    note = "difference of the mean power by spatial frequency"

    def measured(self, pictures: Sequence[Sample], references: Sequence[Sample]) -> list[float]:
        """Pseudo-values."""
        made_NHW, real_NHW = self.pair(pictures, references)
        made_NK, real_NK = radial_power(made_NHW), radial_power(real_NHW)
        n = len(made_NK)
        without = [(x_NK.sum(0) - x_NK) / (n - 1) for x_NK in (made_NK, real_NK)]
        whole = _decibels(made_NK.mean(0, keepdims=True), real_NK.mean(0, keepdims=True))
        return pseudo_values(float(whole[0]), _decibels(*without))

    def score(self, outputs: Sequence[Output], references: Sequence[Sample]) -> list[Score]:
        """The difference with its interval."""
        return clipped(super().score(outputs, references), low=0.0)


def radial_power(bright_NHW: Floats) -> Floats:
    """Mean power on rings of one spatial frequency, from one wave a picture to half a wave a pixel [N, K]."""
    _, height, width = bright_NHW.shape
    wave_NHW = np.fft.fft2(bright_NHW - bright_NHW.mean(axis=(1, 2), keepdims=True))
    power_NHW = np.abs(wave_NHW) ** 2 / (height * width)
    side = min(height, width)
    away_HW = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.fftfreq(width)[None]) * side
    ring_HW = np.rint(away_HW).astype(int)
    rings = [power_NHW[:, ring_HW == ring].mean(1) for ring in range(1, side // 2 + 1)]
    return np.stack(rings, axis=1)


def _decibels(first_NK: Floats, second_NK: Floats) -> Floats:
    """The root mean squared difference over rings, in decibels [N]."""
    apart_NK = 10 * (np.log10(first_NK + _SILENT) - np.log10(second_NK + _SILENT))
    difference: Floats = np.sqrt((apart_NK**2).mean(1))
    return difference


def sharpness() -> Sharpness:
    """The scorer; it has no settings."""
    return Sharpness()


def spectrum() -> Spectrum:
    """The scorer; it has no settings."""
    return Spectrum()
