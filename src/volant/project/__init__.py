"""Runs methods, turns the wheel, promotes.

What enters: a `volant.yaml` or Python calls. What leaves: artifacts in the store, and records of how
they came about. `project.py` is the way in; `planning.py` checks a file before its first step,
`fingerprint.py` tells fresh from stale, `execute.py` runs one call, `turning.py` turns the wheel.
"""

from volant.project.project import Project as Project
