"""The toy suite is importable by name, here and in the processes that its cells run in."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
