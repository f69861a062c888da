"""Whether a video gets worse as it goes on: the Fréchet distance of its windows by their place, and its slope."""

import numpy as np
from jaxtyping import Float, Int, UInt8

from metrics.distribution.frechet import Gaussian, GaussianFactor, frechet_distance, leave_one_out
from metrics.intervals import assign_groups, jackknife_interval
from metrics.networks.features import FeatureNetwork, extract_pair
from metrics.score import Score
from metrics.videos.frames import check_videos


def fvd_drift(
    real: UInt8[np.ndarray, "N T H W C"],
    fake: UInt8[np.ndarray, "M S Y X C"],
    *,
    network: FeatureNetwork,
    window: int,  # frames
    batch_size: int = 64,
) -> Score:
    """FVD gained from one window of a generated video to the next: 0 = no drift, above = it gets worse.

    Real video is taken to be the same at any time, so the windows at every place are compared with all real windows;
    each distance rests on as many windows as there are videos, and their bias, alike at all places, leaves the slope.

    Raises:
        ValueError: an array that is no set of videos, fewer than 2 generated ones, or room for fewer than 2 windows.
    """
    check_videos(fake, what="generated videos", frames=2 * window)
    rows = extract_pair(network, real, fake, window=window, batch_size=batch_size)
    real_rows, fake_rows, real_source, fake_source = rows
    place = np.arange(len(fake_rows)) % (fake.shape[1] // window)
    return drift_score(real_rows, fake_rows, place, real_source, fake_source)


def drift_score(
    real: Float[np.ndarray, "N F"],
    fake: Float[np.ndarray, "M F"],
    place: Int[np.ndarray, " M"],  # of each generated row along its video
    real_group: Int[np.ndarray, " N"],  # what is left out together on the two sides: captions, or else videos; from 0
    fake_group: Int[np.ndarray, " M"],
) -> Score:
    """Slope, by least squares, of the Fréchet distance over the place; `n` counts the videos behind each distance.

    Rows of equal number are left out of both sides at once, in 20 random parts. Where the numbers of the two sides are
    unrelated, their errors are independent, and leaving them out together adds up the two variances all the same.
    """
    count = min(20, len(np.unique(real_group)), len(np.unique(fake_group)))
    real_part, fake_part = (assign_groups(group, count) for group in (real_group, fake_group))
    places = np.unique(place)
    parts = [[Gaussian.of(real[real_part == number]) for number in range(count)]]
    for at in places:
        parts.append([Gaussian.of(fake[(place == at) & (fake_part == number)]) for number in range(count)])
    weights = (places - places.mean()) / ((places - places.mean()) ** 2).sum()

    def slope(of_real: Gaussian, *of_places: Gaussian) -> float:
        factor = GaussianFactor.of_gaussian(of_real)
        return float(weights @ [frechet_distance(factor, side) for side in of_places])

    whole = [Gaussian.of(real), *(Gaussian.of(fake[place == at]) for at in places)]
    value, n = slope(*whole), min(side.n for side in whole[1:])
    if count < 3:
        return Score(value, n)
    rests = zip(*map(leave_one_out, parts), strict=True)
    low, high = jackknife_interval(value, [[slope(*rest) for rest in rests]])
    return Score(value, n, low, high)
