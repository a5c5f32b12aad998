"""What only a real process shows: light start, Ctrl-C, plain lines in a file."""

import os
import signal
import subprocess
import sys
import time
import types
from pathlib import Path

import pytest

SPEC = """volant: 1
name: toy
device: cpu
steps:
  waits: {{use: "cli_toys:{method}"}}
"""
HEAVY = (
    "torch",
    "transformers",
    "pandas",
    "pyarrow",
    "datasets",
    "peft",
    "trl",
    "sklearn",
    "scipy",
    "fastapi",
    "sqlalchemy",
)


def start(folder: Path, *words: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "volant.cli", *words],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parent)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_for(process: subprocess.Popen[str], word: str) -> str:
    seen = ""
    assert process.stdout is not None
    while word not in seen:
        line = process.stdout.readline()
        assert line, (seen, process.communicate())
        seen += line
    return seen


@pytest.mark.parametrize("words", [["--help"], ["run", "--help"], ["--version"]])
def test_start_loads_nothing_heavy(words: list[str], tmp_path: Path) -> None:
    code = (
        "import sys\nfrom volant.cli import main\n"
        f"try:\n    main({words!r})\nexcept SystemExit:\n    pass\n"
        f"sys.stderr.write(','.join(n for n in {HEAVY!r} if n in sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, check=True)
    assert done.stderr == "" and done.stdout


def test_stages_load_nothing_heavy() -> None:
    code = (
        "import sys, volant.stages\nfrom volant.core.method import methods\nmethods()\n"
        f"print(','.join(n for n in {HEAVY!r} if n in sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


def test_ctrl_c_keeps_a_checkpoint_and_run_carries_on(tmp_path: Path) -> None:
    (tmp_path / "volant.yaml").write_text(SPEC.format(method="slow"))
    process = start(tmp_path, "run")
    wait_for(process, "started")
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=20)
    assert process.returncode == 130 and "a checkpoint was kept" in errors and "Traceback" not in errors
    again = start(tmp_path, "run")
    out, _ = again.communicate(timeout=30)
    assert again.returncode == 0 and "carried on" in out
    third, _ = start(tmp_path, "run").communicate(timeout=30)
    assert "All steps are fresh" in third


def test_second_ctrl_c_aborts_at_once(tmp_path: Path) -> None:
    (tmp_path / "volant.yaml").write_text(SPEC.format(method="stubborn"))
    process = start(tmp_path, "run")
    wait_for(process, "started")
    begun = time.monotonic()
    process.send_signal(signal.SIGINT)
    assert process.stderr is not None and (process.stderr.readline(), "again" in process.stderr.readline())[1]
    assert process.poll() is None
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=20)
    assert process.returncode == 130 and time.monotonic() - begun < 15


def test_output_to_a_file_is_plain_lines(tmp_path: Path) -> None:
    (tmp_path / "volant.yaml").write_text(SPEC.format(method="numbers"))
    out, _ = start(tmp_path, "run").communicate(timeout=30)
    assert "\x1b" not in out and "\r" not in out
    assert "waits      counting  3/3 numbers  loss 0.5" in out


def test_nothing_to_do_is_said(tmp_path: Path) -> None:
    """How long that takes is measured by bench/fresh.py."""
    (tmp_path / "volant.yaml").write_text(SPEC.format(method="numbers"))
    start(tmp_path, "run").communicate(timeout=30)
    out, _ = start(tmp_path, "run").communicate(timeout=30)
    assert "All steps are fresh" in out


@pytest.mark.parametrize(("given", "taken"), [(None, "10000"), ("7", "7")])
def test_threads_that_wait_leave_the_cores_to_others_unless_the_user_says_otherwise(monkeypatch, given, taken):
    from volant.cli import main

    monkeypatch.setenv("GOMP_SPINCOUNT", given or "")  # whatever main sets, is taken back
    if given is None:
        monkeypatch.delenv("GOMP_SPINCOUNT")
    with pytest.raises(SystemExit):
        main(["--help"])
    assert os.environ["GOMP_SPINCOUNT"] == taken


def test_ctrl_c_while_commands_are_loaded_is_quiet(monkeypatch):
    from volant.cli import main

    def interrupted(name):
        raise KeyboardInterrupt

    loading = types.ModuleType("volant.cli.app")
    loading.__getattr__ = interrupted
    monkeypatch.setitem(sys.modules, "volant.cli.app", loading)
    with pytest.raises(SystemExit) as ended:
        main(["--help"])
    assert ended.value.code == 130
