"""The accumulators under a short name: `metrics.distribution.accumulators`."""

from metrics.distribution.accumulators import FvdAccumulator, IsAccumulator

__all__ = ["FvdAccumulator", "IsAccumulator"]
