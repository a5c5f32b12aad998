"""Licence files are known where they are plain, against what installed packages state of themselves."""

import importlib.metadata
from pathlib import Path

import pytest

from small_sources import MIT
from volant.modalities.licence_text import NAMES, licence_of, stated_licence


def test_installed_packages_are_not_mistaken():
    """Of packages that state one licence and bring one file: hardly any is missed, none is called another."""
    right, unknown, wrong = 0, [], []
    for package in importlib.metadata.distributions():
        stated = str(package.metadata.get("License-Expression") or "")
        files = [f for f in package.files or [] if NAMES.match(f.name) and ".dist-info" in str(f)]
        if stated not in {"MIT", "BSD-3-Clause", "BSD-2-Clause", "Apache-2.0", "ISC", "MPL-2.0"} or len(files) != 1:
            continue
        found = licence_of(Path(str(package.locate_file(files[0]))).read_text(encoding="utf-8", errors="replace"))
        right += found == stated
        unknown += [package.name] if not found else []
        wrong += [(package.name, stated, found)] if found not in ("", stated) else []
    assert not wrong
    assert right >= 20 and len(unknown) <= right / 4, unknown


def test_a_text_with_further_terms_is_left_to_a_person():
    assert licence_of(MIT) == "MIT"
    assert licence_of(MIT + " You may not use it to train models, nor for profit of any kind. " * 10) == ""
    assert licence_of(MIT.replace("free of charge", "for a fee")) == ""
    assert licence_of(MIT + MIT) == licence_of("") == licence_of("MIT") == ""


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("# SPDX-License-Identifier: Apache-2.0\n", "Apache-2.0"),
        ("/* SPDX-License-Identifier: MIT OR GPL-2.0-only */", "MIT OR GPL-2.0-only"),
        ("<!-- SPDX-License-Identifier: CC-BY-4.0 -->", "CC-BY-4.0"),
        ("x" * 5000 + "SPDX-License-Identifier: MIT", ""),
        ("no licence", ""),
        ("//\n// SPDX-License-Identifier: ISC\n", "ISC"),
        ("a = '# SPDX-License-Identifier: MIT'\n", ""),
        ("Write SPDX-License-Identifier: MIT at the top of each file.", ""),
    ],
)
def test_what_a_source_file_states(text, name):
    assert stated_licence(text) == name
