"""The contract of a runner: `check_runner(runner, folder=...)`.

A runner enters. The same call has to leave the same files and the same result as in this process, and an
error has to arrive as the error that it is, with what, where and fix.
"""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

from volant.core.artifact import payload_digest
from volant.core.errors import DataError, Interrupted
from volant.core.protocols import Runner
from volant.core.run import Run
from volant.testing.expecting import expect, same


def check_runner(runner: Runner, *, folder: Path) -> str:
    """Hold a runner to its contract.

    Args:
        runner: where work happens.
        folder: an empty directory that the runner's processes see too.

    Returns:
        The digest of what the call made.
    """
    from volant.runners.local import runner as local

    found = []
    for name, where in (("local", local), ("other", runner)):
        for seed in (3, 4):
            run = _run(folder / f"{name}-{seed}", seed)
            told = where.submit(write_numbers, run, 500).result()
            found.append((payload_digest(run.out)[0], told))
    same(found[2:], found[:2], f"the runner {runner.name} makes another artifact than the local one")
    expect(found[0] != found[1], f"the runner {runner.name} does not hand over the seed")
    for kind in (DataError, Interrupted, ZeroDivisionError):
        handle = runner.submit(fail, _run(folder / f"fails-{kind.__name__}", 0), kind)
        for _ in range(2):
            try:
                handle.result()
                problem: Exception | None = None
            except Exception as error:
                problem = error
            expect(type(problem) is kind, f"the runner {runner.name} turns {kind.__name__} into {problem!r}")
            if isinstance(problem, DataError):
                same((problem.what, problem.where, problem.fix), ("nothing here", "contract", "Add some."),
                     f"the runner {runner.name} loses parts of an error")  # fmt: skip
    return found[0][0]


def _run(folder: Path, seed: int) -> Run:
    out, work = folder / "out", folder / "work"
    out.mkdir(parents=True)
    work.mkdir()
    return Run("contract", out, work, seed=seed)


def write_numbers(run: Run, n: int) -> float:
    """Write `n` numbers of the run's seed; the call that is compared."""
    rng = random.Random(run.seed)
    numbers = [rng.random() for _ in range(n)]
    (run.out / "numbers.txt").write_text("\n".join(map(repr, numbers)))
    return sum(numbers)


def fail(run: Run, kind: type[Exception]) -> Any:
    """Raise an error of the kind."""
    if issubclass(kind, DataError):
        raise kind("nothing here", where="contract", fix="Add some.")
    raise kind("on purpose")
