"""Freed memory that stays with the process, by page faults of allocations that follow each other."""

import os
import platform
import subprocess
import sys

import pytest

SCRIPT = """
import resource, sys
import torch
from gans.runs.allocator import keep_freed_memory
if sys.argv[1] == "keep":
    keep_freed_memory()

def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

for _ in range(10):
    blocks = [torch.ones(10_000_000) for _ in range(2)]  # 40 MB each
    del blocks
before = faults()
for _ in range(5):
    blocks = [torch.ones(10_000_000) for _ in range(2)]
    del blocks
print(faults() - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="it is an option of glibc")
def test_memory_that_is_freed_is_used_again_without_page_faults():
    def faults(option, **more):
        given = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")}
        command = [sys.executable, "-c", SCRIPT, option]
        done = subprocess.run(command, env={**given, **more}, capture_output=True, text=True, check=True)
        return int(done.stdout)

    assert faults("keep") < 1000 < faults("leave")
    assert faults("keep", MALLOC_TRIM_THRESHOLD_="1000", MALLOC_MMAP_THRESHOLD_="1000000") > 1000
