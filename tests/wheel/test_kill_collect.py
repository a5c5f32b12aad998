"""`kill -9` at random moments of a project that gathers, judges and writes data: the bytes are the same."""

import json
import os
import random
import shutil
import signal
import subprocess
import time

import pytest
from test_kill_run import digests, start

import tiny_models
from volant.project import Project

SECONDS = 60  # of killing; the undisturbed run and the last one come on top
SPEC = """\
volant: 1
name: data
device: cpu
threads: 1
goal: {generated: 0.3}
steps:
  raw:    {use: collect.files, glob: "data/*.jsonl", licence: MIT}
  dealt:  {use: collect.split, data: raw}
  seen:   {use: collect.screen, data: dealt, lists: words.txt}
  clean:  {use: collect.clean, data: seen, near: 1.0}
  named:  {use: collect.label, data: clean, rules: rules.yaml}
  told:   {use: collect.balance, data: named, terms: groups.txt}
  tiny:   {use: pretrain.base, source: ./tiny}
  made:
    use: collect.synthesize
    model: tiny
    data: named
    how: answers
    count: 24
    draws: 2
    agree: 0.5
    max_tokens: 12
    temperature: 1.2
  mixed:  {use: collect.mix, data: [named, made], by: origin}
"""


def make(root, tiny):
    (root / "data").mkdir(parents=True)
    lines = [json.dumps({"prompt": s.condition, "completion": s.target}) for s in tiny_models.samples()]
    (root / "data" / "a.jsonl").write_text("\n".join(lines[:24]))
    (root / "data" / "b.jsonl").write_text("\n".join(lines[24:]))
    (root / "words.txt").write_text("drop\n")
    (root / "rules.yaml").write_text("- {label: getter, words: [get, read, load]}\n- {label: other, words: [drop]}\n")
    (root / "groups.txt").write_text("verb | readers | read, load\nverb | writers | add, drop\n")
    shutil.copytree(tiny, root / "tiny")
    (root / "volant.yaml").write_text(SPEC)
    return root


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_data_steps_killed_at_random_moments(tmp_path):
    tiny = tiny_models.model(tmp_path / "model", steps=12).path
    undisturbed = make(tmp_path / "undisturbed", tiny)
    clock = time.monotonic()
    assert start(undisturbed).wait() == 0
    whole = time.monotonic() - clock
    expected = digests(undisturbed)
    assert set(expected) == {"raw", "dealt", "seen", "clean", "named", "told", "tiny", "made", "mixed"}

    rng = random.Random(0)
    clock, kills, number = time.monotonic(), 0, 0
    root = make(tmp_path / "run0", tiny)
    while time.monotonic() - clock < SECONDS or not kills:
        child = start(root)
        try:
            child.wait(rng.uniform(0.3 * whole, whole))
        except subprocess.TimeoutExpired:
            os.killpg(child.pid, signal.SIGKILL)
            child.wait()
            kills += 1
            store = Project(root).store
            assert not any(store.verify(digest) for digest in store.digests())
            continue
        assert child.returncode == 0 and digests(root) == expected
        number += 1
        root = make(tmp_path / f"run{number}", tiny)
    assert start(root).wait() == 0
    assert digests(root) == expected
    assert not list((root / ".volant" / "work").glob("*/*"))
