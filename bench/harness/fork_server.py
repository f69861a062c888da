"""The first module that a fork server loads (`bench.harness.cell_process.start_method`): it ties the server to its run.

A server notices by itself that its run has ended, but only once its libraries are loaded and its last cell has ended.
"""

import os
import signal

from bench.harness.job import RUN
from vidrd.orphans import follow

if RUN in os.environ:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the run, which ends its cells
    follow(int(os.environ[RUN]))
