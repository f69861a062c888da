"""Frame-by-frame likeness against values by hand."""

import numpy as np
import pytest

from metrics.similarity import MOST_PSNR, error_growth, psnr, ssim

RNG = np.random.default_rng(0)
VIDEO = RNG.integers(40, 200, (8, 24, 32, 3), dtype=np.uint8)


def test_equal_videos_are_alike():
    assert psnr(VIDEO, VIDEO).tolist() == [MOST_PSNR] * 8
    assert ssim(VIDEO, VIDEO) == pytest.approx(np.ones(8))
    assert error_growth(VIDEO, VIDEO) == 0


def test_a_constant_error_has_its_psnr():
    assert psnr(VIDEO, VIDEO + 10) == pytest.approx(np.full(8, 20 * np.log10(25.5)))
    assert error_growth(VIDEO, VIDEO + 10) == pytest.approx(0)


def test_ssim_of_flat_frames_is_its_light_term():
    a, b = (np.full((2, 24, 24, 3), level, dtype=np.uint8) for level in (100, 120))
    c1 = 2.55**2
    assert ssim(a, b) == pytest.approx([(2 * 100 * 120 + c1) / (100**2 + 120**2 + c1)] * 2, abs=1e-6)
    assert ssim(VIDEO, RNG.permutation(VIDEO.ravel()).reshape(VIDEO.shape)).max() < 0.2
    assert np.isfinite(ssim(VIDEO[:, :6, :6], VIDEO[:, :6, :6])).all()  # smaller than the window


def test_growth_is_that_of_the_last_quarter():
    other = VIDEO.copy()
    other[:2] += 4
    other[-2:] += 16
    assert error_growth(VIDEO, other) == pytest.approx(np.log2(16.01 / 4.01))
    assert psnr(VIDEO, other)[3] == MOST_PSNR


def test_videos_of_other_sizes_are_refused():
    for measure in (psnr, ssim, error_growth):
        with pytest.raises(ValueError, match=r"in one size: got \(8, 24, 32, 3\) and \(7, 24, 32, 3\)"):
            measure(VIDEO, VIDEO[1:])
