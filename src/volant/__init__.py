"""Volant: one package that takes a generative model through its whole life, and round again.

import volant
from volant.stages import collect, pretrain, finetune, evaluate

project = volant.Project("docstrings")
corpus = project.run(collect.files, glob="data/*.jsonl", licence="CC-BY-4.0")
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from volant.project import Project as Project

__version__ = "0.1.0"
__all__ = ["Project", "__version__"]


def __getattr__(name: str) -> Any:
    """Load `Project` on first use: importing volant itself stays light."""
    if name == "Project":
        from volant.project import Project

        return Project
    raise AttributeError(f"module 'volant' has no attribute {name!r}")
