"""Where real video files are, which may not be copied into the project: VIDRD_CLIPS names the folder."""

import os
from pathlib import Path

CLIPS = Path(os.environ.get("VIDRD_CLIPS") or Path(__file__).parents[2] / "shared" / "clips")
WANTED = "needs real video files, which are not in the repository: name their folder by VIDRD_CLIPS"
