"""Methods that take no time, for driving the command line: a report, a report on a report, and one that waits."""

import json
import time

from volant.core import Report, Run, Score


def numbers(run: Run, *, size: int = 3, path: str = "") -> Report:
    """Write some numbers.

    Args:
        size: how many.
        path: not used.
    """
    with run.progress("counting", size, "numbers") as bar:
        for _ in range(size):
            bar.advance(1, loss=0.5)
    (run.out / "report.json").write_text(json.dumps(list(range(size))))
    (run.out / "index.html").write_text("<p>numbers</p>")
    run.score(Score.exact("relevance", size / 10, n=size))
    run.say(f"wrote {size} numbers")
    return Report(run.out)


def total(run: Run, report: Report, *more: Report, plus: int = 0) -> Report:
    """Add them up.

    Args:
        plus: added on top.
    """
    figures = [sum(r.read_json("report.json")) for r in (report, *more)]
    (run.out / "report.json").write_text(json.dumps([sum(figures) + plus]))
    return Report(run.out)


def slow(run: Run, *, seconds: float = 30.0) -> Report:
    """Count slowly, keeping a checkpoint; stops where it is asked to.

    Args:
        seconds: for how long, unless a checkpoint says that most is done.
    """
    checkpoint = run.work / "checkpoint"
    if checkpoint.exists():
        run.say("carried on")
        (run.out / "report.json").write_text("[1]")
        return Report(run.out)
    run.say("started")
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if run.stopping:
            checkpoint.write_text("1")
            run.interrupt()
        time.sleep(0.02)
    return Report(run.out)


def stubborn(run: Run) -> Report:
    """Never looks whether it is to stop."""
    run.say("started")
    time.sleep(30)
    return Report(run.out)
