"""I3D under a short name: `metrics.networks.i3d`."""

from metrics.networks.i3d import I3D, I3DFeatures, build_i3d, load_i3d

__all__ = ["I3D", "I3DFeatures", "build_i3d", "load_i3d"]
