"""Memory that is freed and taken again stays with the process, and goes back at the end."""

from __future__ import annotations

import platform
import resource

import psutil
import pytest
import torch

from volant.nets import freed


def _faults(rounds):
    """Pages that were fetched while blocks of 4 MB were filled and freed, 20 at a time."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(rounds):
        blocks = [torch.ones(2**20) for _ in range(20)]
        del blocks
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library")
def test_freed_memory_is_kept_for_the_next_step_and_given_back_at_the_end():
    with freed.kept():
        _faults(2)
        # Each block fetched anew would be 80,000; holes that earlier tests left in the heap cost a few blocks.
        assert _faults(4) < 20_000
        held = psutil.Process().memory_info().rss
    assert psutil.Process().memory_info().rss < held - 40 * 2**20
