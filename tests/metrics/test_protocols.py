"""The tables of protocols: what the rows say, and that nothing in them contradicts the networks."""

import dataclasses

import pytest

from metrics.networks.c3d import CLASSES as UCF_CLASSES
from metrics.networks.c3d import FRAMES, MEAN_SHAPE
from metrics.networks.i3d import MIN_FRAMES, SIZE
from metrics.protocols import DEFAULT_FVD, DEFAULT_IS, FVD, IS
from metrics.videos.preprocess import C3D_SIZE


def test_the_tables_have_the_published_rows():
    assert set(FVD) == {"clean", "google", "styleganv", "styleganv-fixed", "videogpt", "tats", "cdfvd", "common"}
    assert set(IS) == {"tgan", "tgan2", "styleganv"}
    assert DEFAULT_FVD in FVD
    assert DEFAULT_IS in IS


@pytest.mark.parametrize("name", FVD)
def test_a_row_of_fvd_suits_the_network(name):
    row = FVD[name]
    assert row.resample.size == SIZE
    assert MIN_FRAMES <= row.min_frames <= row.frames
    assert row.ddof in (0, 1)
    assert row.resample.kernel != "lanczos"  # which works on bytes
    for side in (row.real, row.fake):
        assert side.n is None or side.n > 0


@pytest.mark.parametrize("name", IS)
def test_a_row_of_is_suits_the_network(name):
    row = IS[name]
    assert row.frames == FRAMES
    assert row.crop + C3D_SIZE <= row.resample.size
    for first, whole in zip(row.mean, MEAN_SHAPE[2:], strict=True):
        assert 0 <= first <= whole - C3D_SIZE
    assert row.n >= row.splits >= 1
    assert UCF_CLASSES == 101


def test_rows_differ():
    for table in (FVD, IS):
        rows = [dataclasses.replace(row, source="") for row in table.values()]
        assert len(set(rows)) == len(rows)
        with pytest.raises(dataclasses.FrozenInstanceError):
            next(iter(table.values())).weights = "others"


def test_epsilons_and_degrees_of_freedom_are_those_found_in_the_code():
    assert {name for name, row in FVD.items() if row.epsilon == 1e-5} == {"videogpt", "tats", "cdfvd"}
    assert {name for name, row in FVD.items() if row.ddof == 0} == {"styleganv", "styleganv-fixed", "cdfvd"}
    assert {name for name, row in FVD.items() if row.resample.fit == "crop"} == {"clean", "videogpt", "common"}
    fixed, as_published = FVD["styleganv-fixed"], FVD["styleganv"]
    assert (as_published.real.order, as_published.real.storage.jpeg) == ("name", 75)
    assert (fixed.real.order, fixed.real.storage.jpeg) == ("shuffled", None)
