"""The names of one network's tensors in each kind of file that people have.

Ours are those of VideoGPT and piergiaj for I3D, and layer.weight, layer.bias for C3D.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

# I3D: our unit -> (hassony2's, TensorFlow's)
STEM = {name: (name[0].lower() + name[1:], name) for name in ("Conv3d_1a_7x7", "Conv3d_2b_1x1", "Conv3d_2c_3x3")}
MIXED = ("Mixed_3b", "Mixed_3c", "Mixed_4b", "Mixed_4c", "Mixed_4d", "Mixed_4e", "Mixed_4f", "Mixed_5b", "Mixed_5c")
BRANCHES = {
    "b0": ("branch_0", "Branch_0/Conv3d_0a_1x1"),
    "b1a": ("branch_1.0", "Branch_1/Conv3d_0a_1x1"),
    "b1b": ("branch_1.1", "Branch_1/Conv3d_0b_3x3"),
    "b2a": ("branch_2.0", "Branch_2/Conv3d_0a_1x1"),
    "b2b": ("branch_2.1", "Branch_2/Conv3d_0b_3x3"),
    "b3b": ("branch_3.1", "Branch_3/Conv3d_0b_1x1"),
}
LOGITS = ("conv3d_0c_1x1", "Logits/Conv3d_0c_1x1")
ODD = {"Mixed_5b/Branch_2/Conv3d_0b_3x3": "Mixed_5b/Branch_2/Conv3d_0a_3x3"}  # a slip of the released checkpoint

NORM = {"bias": "beta", "running_mean": "moving_mean", "running_var": "moving_variance"}  # it has no scale: 1

C3D_LAYERS = ("conv1a", "conv2a", "conv3a", "conv3b", "conv4a", "conv4b", "conv5a", "conv5b", "fc6", "fc7", "fc8")


def _i3d() -> tuple[dict[str, str], dict[str, str]]:
    """Our name -> hassony2's, and our name -> TensorFlow's."""
    units = dict(STEM)
    for mixed in MIXED:
        for branch, (hassony2, tensorflow) in BRANCHES.items():
            scope = f"{mixed}/{tensorflow}"
            units[f"{mixed}.{branch}"] = (f"{mixed.lower()}.{hassony2}", ODD.get(scope, scope))
    there: dict[str, str] = {}
    tf: dict[str, str] = {}
    for unit, (hassony2, tensorflow) in units.items():
        scope = f"RGB/inception_i3d/{tensorflow}"
        there[f"{unit}.conv3d.weight"], tf[f"{unit}.conv3d.weight"] = f"{hassony2}.conv3d.weight", f"{scope}/conv_3d/w"
        there[f"{unit}.bn.weight"] = f"{hassony2}.batch3d.weight"
        for ours, theirs in NORM.items():
            there[f"{unit}.bn.{ours}"], tf[f"{unit}.bn.{ours}"] = (
                f"{hassony2}.batch3d.{ours}",
                f"{scope}/batch_norm/{theirs}",
            )
    for ours, theirs in {"weight": "w", "bias": "b"}.items():
        there[f"logits.conv3d.{ours}"] = f"{LOGITS[0]}.conv3d.{ours}"
        tf[f"logits.conv3d.{ours}"] = f"RGB/inception_i3d/{LOGITS[1]}/conv_3d/{theirs}"
    return there, tf


I3D_HASSONY2, I3D_TENSORFLOW = _i3d()
C3D_CHAINER = {
    f"{layer}.{ours}": f"{layer}/{theirs}" for layer in C3D_LAYERS for ours, theirs in (("weight", "W"), ("bias", "b"))
}
# network -> whose names -> our name -> theirs
NAMES: dict[str, dict[str, Mapping[str, str]]] = {
    "i3d": {
        "VideoGPT": {name: name for name in I3D_HASSONY2},
        "hassony2": I3D_HASSONY2,
        "TensorFlow": I3D_TENSORFLOW,
    },
    "c3d": {"plain": {name: name for name in C3D_CHAINER}, "chainer": C3D_CHAINER},
}


@dataclass(frozen=True)
class Naming:
    """Which network the tensors of a file belong to, and under what names."""

    network: str
    whose: str
    theirs: Mapping[str, str]  # our name -> that in the file, for the tensors that are there
    missing: tuple[str, ...]  # names that the file should have
    extra: tuple[str, ...]  # names it has beyond those of the network


def recognize(names: Iterable[str]) -> Naming | None:
    """The network and the convention that explain most of the names; None if nothing explains any.

    All names may share a prefix, as wrapped networks have it ("module.").
    """
    names = set(names)
    best: Naming | None = None
    for network, conventions in NAMES.items():
        for whose, wanted in conventions.items():
            anchor = next(iter(wanted.values()))
            prefix = next((name.removesuffix(anchor) for name in sorted(names) if name.endswith(anchor)), "")
            full = {ours: prefix + theirs for ours, theirs in wanted.items()}
            there = {ours: theirs for ours, theirs in full.items() if theirs in names}
            if there and (best is None or len(there) > len(best.theirs)):
                missing = tuple(theirs for theirs in full.values() if theirs not in names)
                extra = tuple(sorted(names - set(full.values())))
                best = Naming(network, whose, there, missing, extra)
    return best
