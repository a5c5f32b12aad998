"""Lets every test import the plain modules that lie in this folder (`tiny_models`), and keeps what many need."""

from __future__ import annotations

from typing import Any

import pytest


@pytest.fixture(scope="session")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A `small_content.Shelf`: small pictures, rows and models of them, each made when it is first asked for."""
    from small_content import Shelf

    return Shelf(tmp_path_factory.mktemp("shelf"))
