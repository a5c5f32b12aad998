"""`kill -9` at fifty random moments of `volant run`: the next run carries on, and the bytes are the same."""

import json
import os
import random
import signal
import subprocess
import sys
import time

import pytest

from volant.project import Project

KILLS = 50

SPEC = """\
volant: 1
name: kinds
device: cpu
threads: 1
steps:
  raw:    {use: collect.files, glob: "data/*.jsonl", licence: MIT}
  clean:  {use: collect.clean, data: raw}
  base:
    use: pretrain.transformer
    data: clean
    depth: 1
    vocab: 320
    context: 64
    tokens: 60000
    batch_tokens: 512
    checkpoint_tokens: 5000
  tuned:  {use: finetune.lora, model: base, data: clean, steps: 20, batch: 4}
  small:  {use: compress.quantise, model: tuned, data: clean, limit: 4, loss: 1.0}
  report: {use: evaluate.suite, model: small, data: clean, limit: 8, bias_pairs: 2}
"""


def make(root):
    (root / "data").mkdir(parents=True)
    words = [f"{a}{b}{c}" for a in ("ba", "ko", "lu", "mi") for b in ("re", "to", "ne") for c in "xyzvw"]
    lines = [
        json.dumps({"prompt": f"What is {w}?", "completion": f"A {w} is a kind of {w[:2]} that {w[2:]} likes."})
        for w in words
    ]
    (root / "data" / "a.jsonl").write_text("\n".join(lines))
    (root / "volant.yaml").write_text(SPEC)
    return root


def start(root):
    command = [sys.executable, "-m", "volant.cli", "-C", str(root), "run"]
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": ""}
    quiet = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    return subprocess.Popen(command, env=environment, start_new_session=True, **quiet)


def digests(root):
    return {name: done.artifact.digest for name, done in Project(root).go().items()}


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_fifty_kills_change_nothing(tmp_path):
    undisturbed = make(tmp_path / "undisturbed")
    clock = time.monotonic()
    child = start(undisturbed)
    assert child.wait() == 0
    whole = time.monotonic() - clock
    expected = digests(undisturbed)

    rng = random.Random(0)
    kills, carried_on, number = 0, 0, 0
    root = make(tmp_path / "run0")
    while kills < KILLS:
        child = start(root)
        try:
            # the next run often ends sooner, since it carries on: half of the kills come early
            child.wait(rng.uniform(0.5, whole) if rng.random() < 0.5 else rng.uniform(0.5, whole / 3))
        except subprocess.TimeoutExpired:
            os.killpg(child.pid, signal.SIGKILL)
            child.wait()
            kills += 1
            store = Project(root).store
            broken = {digest: store.verify(digest) for digest in store.digests()}
            assert not any(broken.values()), broken
            continue
        assert child.returncode == 0
        assert digests(root) == expected
        carried_on += 1
        number += 1
        root = make(tmp_path / f"run{number}")
    child = start(root)
    assert child.wait() == 0
    assert digests(root) == expected
    project = Project(root)
    assert not any(row.status == "running" for row in project.records.runs())
    assert not list((root / ".volant" / "work").glob("*/*"))
