"""Who tells the terminal what happens: a live progress bar, or plain lines where output goes to a file.

Enters: what a run says, measures and advances (`core.run.Watcher`). Leaves: text on one stream.
Two small classes instead of one with switches: a live display redraws itself, a log must not.
"""

from __future__ import annotations

import sys
import threading
import time
from dataclasses import dataclass, field
from typing import TextIO

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TaskID, TextColumn
from rich.text import Text

from volant.core.run import Bar, Watcher
from volant.core.score import Score

PLAIN_SECONDS = 5.0
"""At most one plain line per bar in this time, so that a log of an hour stays readable."""


def figures(fields: dict[str, float | str]) -> str:
    """The further figures of a bar in words.

    >>> figures({"loss": 2.3456, "tokens_s": 8123.4})
    'loss 2.346  8,123 tokens/s'
    """
    parts = []
    for name, value in fields.items():
        if name == "left":  # every bar shows its own time left
            continue
        if isinstance(value, str):
            parts.append(f"{name} {value}")
        elif name.endswith("_s"):
            parts.append(f"{value:,.0f} {name.removesuffix('_s')}/s")
        else:
            parts.append(f"{name} {value:.4g}")
    return "  ".join(parts)


def duration(seconds: float) -> str:
    """A time span for people.

    >>> duration(7.2), duration(95), duration(3725)
    ('7 s', '1 min 35 s', '1 h 02 min')
    """
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


class _TimeLeft(ProgressColumn):
    """`12 s left`, once rich has seen enough steps to know."""

    max_refresh = 0.5

    def render(self, task: Task) -> Text:
        left = task.time_remaining
        if task.finished:
            return Text(duration(task.finished_time or 0.0), style="dim")
        return Text("" if left is None else f"{duration(left)} left", style="cyan")


@dataclass
class _LiveBar:
    progress: Progress
    task: TaskID

    def advance(self, n: float = 1, **fields: float | str) -> None:
        if fields:
            self.progress.update(self.task, advance=n, figures=figures(fields))
        else:
            self.progress.advance(self.task, n)


class Live:
    """Progress bars that redraw themselves; lines appear above them.

    Args:
        console: where to draw; it has to be a real terminal.
    """

    def __init__(self, console: Console) -> None:
        self.console = console
        self._lock = threading.Lock()
        self._progress: Progress | None = None
        self._open = 0

    def say(self, step: str, text: str) -> None:
        """One line above the bars."""
        self.console.print(Text.assemble((f"{step:<10} ", "bold"), text), highlight=False)

    def score(self, step: str, score: Score) -> None:
        """One line above the bars."""
        self.console.print(Text.assemble((f"{step:<10} ", "bold"), (_score_line(score), "green")), highlight=False)

    def metric(self, step: str, name: str, value: float, at: int) -> None:
        """Curves are for the records and the report; the bar shows the last loss already."""

    def bar(self, step: str, title: str, total: float, unit: str) -> Bar:
        """Open a bar; the display starts with the first one."""
        with self._lock:
            if self._progress is None:
                self._progress = _new_progress(self.console)
                self._progress.start()
            self._open += 1
            task = self._progress.add_task(title, total=total or None, step=step, unit=unit, figures="")
            return _LiveBar(self._progress, task)

    def close_bar(self, bar: Bar) -> None:
        """The bar stays as a last line; the display ends with the last open one."""
        if not isinstance(bar, _LiveBar):
            return
        with self._lock:
            bar.progress.stop_task(bar.task)
            self._open -= 1
            if self._open == 0 and self._progress is not None:
                self._progress.stop()
                self._progress = None


def _new_progress(console: Console) -> Progress:
    return Progress(
        TextColumn("[bold]{task.fields[step]:<10}"),
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TextColumn("{task.fields[unit]}", style="dim"),
        TextColumn("{task.fields[figures]}", style="magenta"),
        _TimeLeft(),
        console=console,
        refresh_per_second=4,
    )


@dataclass
class _PlainBar:
    out: Plain
    step: str
    title: str
    total: float
    unit: str
    done: float = 0.0
    fields: dict[str, float | str] = field(default_factory=dict)
    started: float = field(default_factory=time.monotonic)
    shown: float = field(default_factory=time.monotonic)

    def advance(self, n: float = 1, **fields: float | str) -> None:
        self.done += n
        self.fields.update(fields)
        now, over = time.monotonic(), 0 < self.total <= self.done  # what is over is told once, when the bar is closed
        if not over and now - self.shown >= self.out.every:
            self.shown = now
            self.out.line(self.step, self.text(now))

    def text(self, now: float) -> str:
        spent = now - self.started
        whole = f"/{self.total:,.0f}" if self.total else ""  # how much there is may not be known
        parts = [self.title, f"{self.done:,.0f}{whole} {self.unit}"]
        if self.fields:
            parts.append(figures(self.fields))
        if 0 < self.done < self.total:
            parts.append(f"{duration(spent / self.done * (self.total - self.done))} left")
        else:
            parts.append(duration(spent))
        return "  ".join(parts)


class Plain:
    """One line per event, for files, pipes and dumb terminals.

    Args:
        stream: where the lines go.
        every: seconds between two lines of one bar.
    """

    def __init__(self, stream: TextIO, every: float = PLAIN_SECONDS) -> None:
        self.stream, self.every = stream, every
        self._lock = threading.Lock()

    def line(self, step: str, text: str) -> None:
        """Write one line at once, so that a reader of the file sees it."""
        with self._lock:
            self.stream.write(f"{step:<10} {text}\n")
            self.stream.flush()

    def say(self, step: str, text: str) -> None:
        """One line."""
        self.line(step, text)

    def score(self, step: str, score: Score) -> None:
        """One line."""
        self.line(step, _score_line(score))

    def metric(self, step: str, name: str, value: float, at: int) -> None:
        """Curves are for the records and the report."""

    def bar(self, step: str, title: str, total: float, unit: str) -> Bar:
        """A bar that writes a line now and then."""
        return _PlainBar(self, step, title, total, unit)

    def close_bar(self, bar: Bar) -> None:
        """A last line with what was reached."""
        if isinstance(bar, _PlainBar):
            self.line(bar.step, bar.text(time.monotonic()))


def _score_line(score: Score) -> str:
    return str(score) if score.of == "model" else f"{score} ({score.of})"


def watcher(stream: TextIO | None = None) -> Watcher:
    """The watcher that fits the stream (standard output by default): live on a terminal, else plain."""
    stream = stream or sys.stdout
    console = Console(file=stream)
    if console.is_terminal and not console.is_dumb_terminal:
        return Live(console)
    return Plain(stream)
