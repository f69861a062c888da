import hashlib

import numpy as np

from bench.regression.base_videos import kept_videos

VALUES = {"method": "vidrd", "videos": 4, "batch": 2}


def test_fewer_are_a_part_of_more_and_other_bases_leave(tmp_path):
    videos = np.random.default_rng(0).integers(0, 256, (6, 2, 4, 4, 3), dtype=np.uint8)
    first = hashlib.sha256(videos[:2].tobytes()).hexdigest()
    kept = kept_videos(tmp_path, "a" * 40, VALUES, first)
    assert kept.load(4) is None
    kept.save(videos)
    more = kept_videos(tmp_path, "a" * 40, VALUES | {"videos": 6}, first)
    assert np.array_equal(kept.load(4), videos[:4])
    assert np.array_equal(more.load(6), videos)
    assert more.load(8) is None
    assert kept_videos(tmp_path, "a" * 40, VALUES | {"method": "direct"}, first).load(4) is None
    assert kept_videos(tmp_path, "a" * 40, VALUES, "0" * 64).load(4) is None
    kept_videos(tmp_path, "b" * 40, VALUES, first).save(videos[:4])
    assert kept.load(4) is None
    assert [path.name[0] for path in tmp_path.iterdir()] == ["b"]
