"""The watcher between a method and the records: keeps figures, passes everything on to the terminal."""

from __future__ import annotations

import time

from volant.core.run import Bar, Watcher
from volant.core.score import Score
from volant.store.records import Records

FLUSH_POINTS = 1000
FLUSH_SECONDS = 5.0


class RecordingWatcher:
    """Writes scores and curves of one run into the records, in batches, and forwards to another watcher."""

    def __init__(self, records: Records, run_id: str, outer: Watcher) -> None:
        self.records, self.run_id, self.outer = records, run_id, outer
        self.scores: list[Score] = []
        self._points: list[tuple[str, float, int]] = []
        self._flushed = time.monotonic()

    def say(self, step: str, text: str) -> None:
        """Forward a line."""
        self.outer.say(step, text)

    def score(self, step: str, score: Score) -> None:
        """Keep a score for the card and the records; the same name and owner again replaces it."""
        self.scores = [s for s in self.scores if (s.name, s.of) != (score.name, score.of)] + [score]
        self.outer.score(step, score)

    def metric(self, step: str, name: str, value: float, at: int) -> None:
        """Keep a point of a curve; written in batches."""
        self._points.append((name, float(value), int(at)))
        self.outer.metric(step, name, value, at)
        if len(self._points) >= FLUSH_POINTS or time.monotonic() - self._flushed > FLUSH_SECONDS:
            self.flush()

    def flush(self) -> None:
        """Write what is waiting."""
        if self._points:
            self.records.add_metrics(self.run_id, self._points)
            self._points = []
        self._flushed = time.monotonic()

    def bar(self, step: str, title: str, total: float, unit: str) -> Bar:
        """Forward."""
        return self.outer.bar(step, title, total, unit)

    def close_bar(self, bar: Bar) -> None:
        """Forward."""
        self.outer.close_bar(bar)
