"""Lets every test import the plain modules that lie in this folder (`tiny_models`), and keeps what many need."""

from __future__ import annotations

import os
from typing import Any

import hypothesis
import pytest

# A test must say the same of the same commit, so property tests draw the same examples each time; `make soak` seeks
# new ones. What a search found is kept as an example of its own beside the property. How long drawing takes says
# how busy the machine is, nothing of the code.
BUSY = [hypothesis.HealthCheck.too_slow]
hypothesis.settings.register_profile("fixed", derandomize=True, deadline=None, suppress_health_check=BUSY)
hypothesis.settings.register_profile("search", derandomize=False)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "fixed"))


@pytest.fixture(scope="session")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A `small_content.Shelf`: small pictures, rows and models of them, each made when it is first asked for."""
    from small_content import Shelf

    return Shelf(tmp_path_factory.mktemp("shelf"))
