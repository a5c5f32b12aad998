"""`volant run` on a disk that is really full: a clear error, nothing lost, and the next run carries on."""

import shutil
import subprocess
import sys

import pytest
from test_kill_run import digests, make

SCRIPT = """
set -u
mount -t tmpfs -o size={size}k tmpfs {mount}
cp -r {source} {mount}/p
{python} -m volant.cli -C {mount}/p run > {out}/first 2>&1
echo $? > {out}/first.rc
mount -o remount,size=400m {mount}
{python} -m volant.cli -C {mount}/p verify > {out}/verify 2>&1
echo $? > {out}/verify.rc
{python} -m volant.cli -C {mount}/p run > {out}/second 2>&1
echo $? > {out}/second.rc
cp -r {mount}/p {out}/p
"""


@pytest.mark.slow
@pytest.mark.parametrize("size", [900, 1500, 2000])
def test_a_full_disk_is_said_and_loses_nothing(tmp_path, size):
    if shutil.which("unshare") is None or subprocess.run(["unshare", "-m", "true"], capture_output=True).returncode:
        pytest.skip("this machine does not let us mount a small disk (unshare -m)")
    source, mount, out = make(tmp_path / "source"), tmp_path / "mount", tmp_path / "out"
    mount.mkdir()
    out.mkdir()
    script = SCRIPT.format(size=size, mount=mount, source=source, out=out, python=sys.executable)
    subprocess.run(["unshare", "-m", "sh", "-c", script], check=True)
    first = (out / "first").read_text()
    assert (out / "first.rc").read_text().strip() == "2", first
    assert "disk" in first and "Traceback" not in first, first
    assert (out / "verify.rc").read_text().strip() == "0", (out / "verify").read_text()
    assert (out / "second.rc").read_text().strip() == "0", (out / "second").read_text()
    assert digests(out / "p") == digests(source)
