import pytest

from volant.core.errors import DataError
from volant.core.protocols import Runner
from volant.core.run import Run
from volant.runners.local import runner


def test_result_is_what_the_call_returned(tmp_path):
    run = Run("step", tmp_path, tmp_path)
    handle = runner.submit(lambda run, a, b: (run.step, a + b), run, 1, 2)
    assert handle.result() == handle.result() == ("step", 3)
    as_runner: Runner = runner
    assert as_runner.name == "local"


def test_result_raises_what_the_call_raised(tmp_path):
    def fails(run):
        raise DataError("no data.")

    handle = runner.submit(fails, Run("step", tmp_path, tmp_path))
    for _ in range(2):
        with pytest.raises(DataError, match="no data"):
            handle.result()


def test_ctrl_c_passes_at_once(tmp_path):
    def interrupted(run):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        runner.submit(interrupted, Run("step", tmp_path, tmp_path))
