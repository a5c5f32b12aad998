"""`volant demo`: the docstrings example through all eleven stages, in use, and round again.

Enters: nothing but this Python. Leaves: a project folder, a champion that learnt from use, and the
numbers on the screen. The users are played by this program, but nothing they touch is: a real server on
a free loopback port answers real requests about functions that no step of the example has seen, and the
corrections are the docstrings that the authors of those functions wrote. (The base that comes with Volant has read the
library's training modules as running text, theirs among it; no base has seen a test or validation module.)
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from volant.cli import init, present
from volant.cli.interrupt import stops
from volant.cli.place import FILE
from volant.cli.service import address
from volant.cli.terminal import duration, watcher
from volant.core.errors import SettingError

if TYPE_CHECKING:
    import httpx

    from volant.core.sample import Sample
    from volant.project import Project
    from volant.project.turning import TurnResult

QUESTIONS, QUESTIONS_FROM_SCRATCH = 1500, 480
CLIENTS = 8
SHOWN = 3
WORKLOAD = "docstrings"


def demo(folder: Path, *, from_scratch: bool = False) -> None:
    """Run the docstrings example; ends by itself.

    Args:
        folder: where the project is made; one that is there is carried on with.
        from_scratch: train a base too; fewer questions are asked then, which teach its smaller data enough.
    """
    from volant.project import Project
    from volant.project.turning import turn

    started = time.monotonic()
    if not (folder / FILE).exists():
        init.fill("docstrings", folder, from_scratch=from_scratch)
    opened = Project(folder, watcher=watcher())
    scratch = _trains_a_base(opened, folder, wanted=from_scratch)
    with stops(opened.stop):
        present.say(f"First turn: from an empty folder to a model in use ({folder / FILE}).")
        first = turn(opened)
        if first.outcome == "kept":
            present.say(f"No champion: {'; '.join(first.reasons)}")
            return
        with _server(opened) as url:
            asked = ask(opened, url, QUESTIONS_FROM_SCRATCH if scratch else QUESTIONS)
            with _background_load(url, asked) as load:
                present.say("\nSecond turn: what use taught goes back in; the server goes on answering meanwhile.")
                second = turn(opened)
                _wait_for(load, opened)
            shown = _answers(url, asked[:SHOWN])
    _tell(opened, folder, [first, second], load, shown, time.monotonic() - started)


def _trains_a_base(opened: Project, folder: Path, *, wanted: bool) -> bool:
    """Whether this example trains its own base.

    Raises:
        SettingError: it is another project, or it starts from the base in the box where its own one is wanted.
    """
    steps = opened.need_spec().steps
    if "functions" not in steps:
        what = f"{folder / FILE} is another project than the docstrings example."
        raise SettingError(what, fix="Name another folder: `volant demo FOLDER`.")
    scratch = "library" in steps
    if wanted and not scratch:
        what = f"the example in {folder / FILE} starts from the base in the box."
        raise SettingError(what, fix="Name another folder: `volant demo FOLDER --from-scratch`.")
    return scratch


@contextmanager
def _server(opened: Project) -> Iterator[str]:
    """The champion behind a server on a free loopback port, as `volant up` starts it."""
    from volant.serving import background
    from volant.serving.run import Process

    process = Process(workload=WORKLOAD, threads=1)
    background.stop(opened.records, WORKLOAD)
    child, port = background.start_background(
        opened.store.root, opened.records.database.url, "champion", process=process
    )
    url = address("127.0.0.1", port)
    opened.watcher.say("server", f"the champion answers at {url}")
    try:
        yield url
    finally:
        background.stop(opened.records, WORKLOAD)
        child.wait(30)


def ask(opened: Project, url: str, most: int) -> list[Sample]:
    """Ask about functions that no step has trained on, and send their authors' own words as corrections."""
    questions = unseen(opened)[:most]
    done = 0
    lock = threading.Lock()
    bar = opened.watcher.bar("use", "requests and corrections", len(questions), "requests")

    def one(client: httpx.Client, number: int, sample: Sample) -> None:
        nonlocal done
        answer = _chat(client, sample.condition or "", f"user-{number}")
        correction = {"request_id": answer["id"], "user": f"user-{number}", "rating": -1, "consent": "training"}
        correction |= {"correction": sample.target}
        client.post("/v1/feedback", json=correction).raise_for_status()
        with lock:
            done += 1
            bar.advance(1)

    def client_work(number: int) -> None:
        with _client(url) as client:
            for sample in questions[number::CLIENTS]:
                one(client, number, sample)

    with ThreadPoolExecutor(CLIENTS) as pool:
        list(pool.map(client_work, range(CLIENTS)))
    opened.watcher.close_bar(bar)
    opened.watcher.say("use", f"{done} answered requests and as many corrections")
    return questions


def unseen(opened: Project) -> list[Sample]:
    """Functions of training modules that the example left out; none is of a test or validation module."""
    from volant.core.artifact import Dataset
    from volant.stages import collect
    from volant.store.dataset import rows

    steps = opened.need_spec().steps
    like = {name: steps["functions"].arguments[name] for name in ("max_chars",) if name in steps["functions"].arguments}
    every = opened.step("users").run(collect.python_sources, what="pairs", **like)
    known = set()
    for name in [name for name in ("functions", "library") if name in steps]:
        data = opened.artifact(name)
        assert isinstance(data, Dataset)
        known |= {sample.group for sample in rows(data)}
    return [sample for sample in rows(every, "train") if sample.group not in known]


def _client(url: str) -> httpx.Client:
    import httpx

    return httpx.Client(base_url=url, timeout=120, headers={"X-Volant-Consent": "training"}, trust_env=False)


def _chat(client: httpx.Client, text: str, user: str) -> dict[str, Any]:
    body = {"model": "champion", "messages": [{"role": "user", "content": text}], "max_tokens": 32, "user": user}
    answer = client.post("/v1/chat/completions", json=body)
    answer.raise_for_status()
    parsed: dict[str, Any] = answer.json()
    return parsed


@dataclass
class Load:
    """Requests that ran while the champion changed: how many, how many failed, and which models answered."""

    requests: int = 0
    failed: int = 0
    models: list[str] = field(default_factory=list)


@contextmanager
def _background_load(url: str, samples: Sequence[Sample]) -> Iterator[Load]:
    """A request every half second until the block ends."""
    load, over = Load(), threading.Event()

    def work() -> None:
        with _client(url) as client:
            while not over.is_set():
                sample = samples[load.requests % len(samples)]
                load.requests += 1
                try:
                    body = {
                        "model": "champion",
                        "messages": [{"role": "user", "content": sample.condition}],
                        "max_tokens": 16,
                    }
                    answer = client.post("/v1/chat/completions", json=body, headers={"X-Volant-Consent": "none"})
                    load.failed += answer.status_code != 200
                    model = answer.headers.get("x-volant-model", "")
                    if model and model not in load.models:
                        load.models.append(model)
                except Exception:  # whatever it was: the user got no answer
                    load.failed += 1
                over.wait(0.5)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    try:
        yield load
    finally:
        over.set()
        thread.join(60)


def _wait_for(load: Load, opened: Project, seconds: float = 30.0) -> None:
    """Until the server has answered a request with the champion that the records name."""
    row = opened.records.alias("champion")
    end = time.monotonic() + seconds
    while row and row.digest not in load.models:
        if time.monotonic() > end:
            present.say("The server did not take over the new champion in time.")
            return
        time.sleep(0.1)


def _answers(url: str, samples: Sequence[Sample]) -> list[tuple[Sample, str]]:
    with _client(url) as client:
        return [(s, _chat(client, s.condition or "", "reader")["choices"][0]["message"]["content"]) for s in samples]


def _tell(
    opened: Project,
    folder: Path,
    turns: Sequence[TurnResult],
    load: Load,
    shown: Sequence[tuple[Sample, str]],
    seconds: float,
) -> None:
    from volant.project.looking import status

    present.say("\nThe wheel, after two turns:")
    rows = status(opened)
    for row in rows:
        target = f"  (target {row.target}: {'met' if row.met else 'missed'})" if row.target else ""
        present.say(f"  {row.method:<24} {row.score or ''}{target}")
    present.say("\nThree answers of the champion, as they are:")
    for sample, answer in shown:
        name = next((line for line in (sample.condition or "").split("\n") if "def " in line), "").strip()
        present.say(f"  {name}\n    model:  {answer}\n    author: {sample.target}")
    second = turns[-1]
    present.say(f"\nSecond turn: {second.outcome}; {second.harvested} corrections went in.")
    for reason in second.reasons:
        present.say(f"  {reason}")
    present.say(
        f"  {load.requests} requests while it turned, {load.failed} failed, {len(load.models)} models answered."
    )
    report = opened.artifact("report").path / "index.html"
    present.say(f"\nReport:  {report}")
    present.say(f"Serve:   volant -C {folder} serve")
    present.say(f"Back:    volant -C {folder} rollback")
    present.say(f"It took {duration(seconds)}.")
    numbers = {
        "seconds": seconds,
        "steps": [row.as_json() for row in rows],
        "turns": [vars(result) for result in turns],
        "load": vars(load),
        "samples": [{"function": s.condition, "author": s.target, "model": answer} for s, answer in shown],
    }
    (opened.store.root / "demo.json").write_text(json.dumps(numbers, indent=1, default=str))
