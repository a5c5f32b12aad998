"""Memory that is freed and taken again stays with the process, and goes back at the end."""

from __future__ import annotations

import json
import platform
import subprocess
import sys

import pytest

# A process of its own: what other tests have left in the heap decides where blocks fall, and whether they are its end.
ALONE = """
import json, resource
import psutil, torch
from volant.nets import freed

def faults(rounds):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(rounds):
        blocks = [torch.ones(2**20) for _ in range(20)]  # 4 MB each
        del blocks
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

usual = faults(4)
with freed.kept():
    faults(2)
    kept, held = faults(4), psutil.Process().memory_info().rss
print(json.dumps([usual, kept, held - psutil.Process().memory_info().rss]))
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library")
def test_freed_memory_is_kept_for_the_next_step_and_given_back_at_the_end():
    said = subprocess.run([sys.executable, "-c", ALONE], capture_output=True, text=True, check=True, timeout=120)
    usual, kept, given_back = json.loads(said.stdout)
    assert kept < usual / 20 and given_back > 40 * 2**20  # pages fetched, and bytes
