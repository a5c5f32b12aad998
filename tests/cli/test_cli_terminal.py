"""The watchers: plain lines are few and whole, the live display draws on a terminal and puts lines above."""

import doctest
import io
import signal
import threading

import pytest
from rich.console import Console

from volant.cli import init, present, signature, terminal
from volant.cli.interrupt import stops
from volant.core.score import Score


@pytest.mark.parametrize("module", [init, terminal, present, signature])
def test_examples_in_docstrings(module: object) -> None:
    assert doctest.testmod(module).failed == 0  # type: ignore[arg-type]


def test_plain_lines_are_at_most_one_per_time() -> None:
    stream = io.StringIO()
    plain = terminal.Plain(stream, every=3600)
    bar = plain.bar("tuned", "training", 500, "steps")
    for step in range(400):
        bar.advance(1, loss=4.0 - step / 200, tokens_s=8123.4)
    assert stream.getvalue() == ""
    plain.close_bar(bar)
    line = stream.getvalue()
    assert line.count("\n") == 1 and "400/500 steps" in line and "loss 2.005" in line and "8,123 tokens/s" in line
    assert "left" in line


def test_a_bar_without_an_end_names_none() -> None:
    stream = io.StringIO()
    plain = terminal.Plain(stream, every=3600)
    bar = plain.bar("rows", "reading files", 0, "bytes")
    bar.advance(7090)
    plain.close_bar(bar)
    assert "7,090 bytes" in stream.getvalue() and "/0" not in stream.getvalue()
    live = terminal.Live(Console(file=stream, force_terminal=True, width=120))
    shown = live.bar("rows", "reading files", 0, "bytes")
    shown.advance(7090)
    live.close_bar(shown)
    assert "7090/?" in stream.getvalue()


def test_plain_lines_come_while_it_works() -> None:
    stream = io.StringIO()
    plain = terminal.Plain(stream, every=0)
    bar = plain.bar("tuned", "training", 3, "steps")
    for _ in range(3):
        bar.advance()
    plain.close_bar(bar)
    plain.say("tuned", "done")
    plain.score("tuned", Score(name="relevance", value=0.5, low=0.4, high=0.6, n=9, of="baseline:ngram"))
    lines = stream.getvalue().splitlines()
    assert len(lines) == 5 and sum("3/3" in line for line in lines) == 1, "what is over is told once"
    assert lines[-1] == "tuned      relevance 0.5 [0.4, 0.6] (baseline:ngram)"


def test_live_display_draws_bars_and_figures() -> None:
    stream = io.StringIO()
    live = terminal.Live(Console(file=stream, force_terminal=True, width=120))
    first, second = live.bar("a", "one", 10, "steps"), live.bar("b", "two", 10, "steps")
    first.advance(5, loss=1.25)
    live.say("a", "a line [with brackets]")
    live.close_bar(first)
    second.advance(10)
    live.close_bar(second)
    text = stream.getvalue()
    assert "loss 1.25" in text and "a line [with brackets]" in text and "10/10" in text
    third = live.bar("c", "three", 1, "steps")  # a display starts again after the last one ended
    live.close_bar(third)
    assert "three" in stream.getvalue()


def test_watcher_fits_the_stream() -> None:
    assert isinstance(terminal.watcher(io.StringIO()), terminal.Plain)


def test_first_ctrl_c_asks_second_aborts_and_handlers_come_back() -> None:
    before = signal.getsignal(signal.SIGINT)
    stop = threading.Event()
    with stops(stop):
        signal.raise_signal(signal.SIGINT)
        assert stop.is_set()
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is before


def test_stops_does_nothing_in_a_thread() -> None:
    seen: list[bool] = []

    def work() -> None:
        with stops(threading.Event()):
            seen.append(True)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [True]
