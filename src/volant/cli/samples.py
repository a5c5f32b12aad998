"""Real data for templates, out of packages that Volant needs anyway: nothing is fetched.

Enters: a template's name and a folder. Leaves: files there as a user would bring them: pictures in a folder
a class, a CSV with a header.

* `digits`: 1,797 handwritten digits, 8x8 grey (Alpaydin and Kaynak 1998; UCI, CC-BY-4.0), out of scikit-learn.
* `patients`: 442 diabetes patients with ten measurements and how their illness went on within a year (Efron and
  others 2004), as scikit-learn ships them. What the codes of `sex` stand for is not said there.
"""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

PATIENT_COLUMNS = ("age", "sex", "bmi", "pressure", "tc", "ldl", "hdl", "tch", "ltg", "glucose", "progression")
_WHOLE = {"age", "tc", "hdl", "glucose", "progression"}


def write_digits(folder: Path) -> None:
    """`<class>/<number>.png`, 8x8 grey."""
    import numpy as np
    from PIL import Image
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    for number, (values, label) in enumerate(zip(images, labels, strict=True)):
        place = folder / str(label)
        place.mkdir(parents=True, exist_ok=True)
        grey = np.rint(values.reshape(8, 8) * (255 / 16)).astype(np.uint8)
        Image.fromarray(grey).save(place / f"{number:04d}.png")


def write_patients(folder: Path) -> None:
    """`patients.csv` with a header; units as they were measured."""
    from sklearn.datasets import load_diabetes

    measured, progression = load_diabetes(return_X_y=True, scaled=False)
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "patients.csv").open("w", newline="", encoding="utf-8") as file:
        out = csv.writer(file, lineterminator="\n")
        out.writerow(PATIENT_COLUMNS)
        for row, after in zip(measured, progression, strict=True):
            out.writerow([_cell(name, value) for name, value in zip(PATIENT_COLUMNS, [*row, after], strict=True)])


def _cell(name: str, value: float) -> str:
    if name == "sex":
        return f"sex {int(value)}"
    return str(int(value)) if name in _WHOLE and value == int(value) else f"{value:.10g}"


WRITERS: dict[str, Callable[[Path], None]] = {"digits": write_digits, "patients": write_patients}
