"""Published ways to compute FVD and a C3D Inception Score, one row each: numbers compare within a row only.

A row is data: `metrics.videos.preprocess` carries out what it says of frames, `metrics.networks.i3d` and
`metrics.networks.c3d` what it says of the network, the scorer what it says of sets and statistics. What each row
reproduces, and what could not be verified without the weights, is in docs/metrics-protocols.md.
"""

from dataclasses import dataclass
from typing import Literal

Kernel = Literal[
    "bilinear",  # torch: half-pixel centres, no filter when shrinking
    "bilinear-antialias",  # torch: the triangle widens when shrinking
    "bilinear-tf1",  # TensorFlow 1: position = index * in / out, no half-pixel centres, no filter
    "bilinear-corners",  # corners of input and output fall together (chainer's default)
    "bicubic",  # a = -0.75, no filter when shrinking (OpenCV's INTER_CUBIC)
    "lanczos",  # Pillow: three lobes, filtered, rounded to bytes
]


@dataclass(frozen=True)
class Resample:
    """One change of the size of every frame, to a square."""

    kernel: Kernel
    fit: Literal["squash", "crop"]  # both sides to `size` | the shorter side to `size`, then the center of the longer
    size: int  # pixels
    longer: Literal["ceil", "floor"] = "ceil"  # rounding of the longer side before the crop


@dataclass(frozen=True)
class Storage:
    """What a loader does to real videos before it stores them as bytes."""

    resample: Resample
    quantise: Literal["round", "truncate", "truncate-shifted"]  # shifted: by way of [-0.5, 0.5] in float32, loses more
    jpeg: int | None = None  # quality of the JPEG that each frame goes through; None = lossless


@dataclass(frozen=True)
class Sampling:
    """Which clips of which videos make up one side."""

    split: Literal["given", "train", "test", "train+test"]  # of UCF-101; "given" = whatever the user passes
    order: Literal["given", "name", "shuffled"]  # the first n videos (or clips, for start "every") in this order
    start: Literal["first", "centre", "random", "every"]  # of a clip in its video; "every" = each window is one clip
    n: int | None  # clips; None = all
    short: Literal["refuse", "discard"] = "refuse"  # videos without room for a clip; discarded: under frames * stride
    repeat: bool = False  # go through the set again until n clips are there
    storage: Storage | None = None  # None = frames as decoded


@dataclass(frozen=True)
class FvdProtocol:
    """One row of `FVD`. All of them take the 400 Kinetics logits of I3D, averaged over time, as features."""

    epsilon: float  # of batch-norm
    resample: Resample  # to the network's 224 x 224
    real: Sampling
    fake: Sampling
    ddof: int  # covariances divide by n - ddof
    statistics: Literal["float64", "float32"]  # precision in which it was published; here always float64
    weights: str  # the file it was published with
    source: str
    frames: int = 16
    stride: int = 1
    min_frames: int = 9  # the network cannot read fewer


@dataclass(frozen=True)
class IsProtocol:
    """One row of `IS`: probabilities of C3D's 101 UCF-101 classes, of exactly 16 frames."""

    resample: Resample
    sampling: Sampling  # of either side: n * repeats videos, and the draws are its consecutive parts
    crop: int  # first row and column, after the resize, of the 112 x 112 that the network reads
    mean: tuple[int, int]  # first row and column of the 112 x 112 patch of the 128 x 171 mean that is subtracted
    epsilon: float  # added to p and to the mean of p inside the logarithms
    splits: int
    shuffle: int | None  # seed of numpy.random.RandomState that shuffles before splitting; None = in the given order
    n: int  # videos per draw
    repeats: int  # disjoint draws, each scored; the published +- is over them, or over the splits of a single one
    weights: str
    source: str
    frames: int = 16
    stride: int = 1


@dataclass(frozen=True)
class FeatureProtocol:
    """One row of `FEATURES`: Fréchet and kernel distances of another network's features, by code that people run."""

    network: Literal["videomae-g", "vjepa-h", "vjepa-h-facebook", "dino-b16", "clip-b32"]
    features: int
    real: Sampling
    fake: Sampling
    ddof: int
    frames: int  # of a clip; 1 = single frames
    kernel: Literal["cubic", "jedi"]  # what the row is published with beside the Fréchet distance
    weights: str
    source: str
    unstated: str  # what the source leaves open, and this row fixes
    stride: int = 1


AS_GIVEN = Sampling("given", "given", "first", None)
PLAIN = Storage(Resample("bilinear-antialias", "crop", 256, "floor"), "round")
STYLEGANV = Storage(Resample("lanczos", "crop", 256, "floor"), "round", jpeg=75)
STYLEGANV_LOSSLESS = Storage(Resample("lanczos", "crop", 256, "floor"), "round")
TATS = Storage(Resample("bilinear", "crop", 128), "truncate-shifted")
CDFVD = Storage(Resample("bilinear-antialias", "crop", 256), "truncate")

SQUASHED = Resample("bilinear", "squash", 224)
CROPPED = Resample("bilinear", "crop", 224)
TGAN2_INPUT = Resample("bilinear-corners", "squash", 112)

FVD: dict[str, FvdProtocol] = {
    "clean": FvdProtocol(
        epsilon=1e-3,
        resample=Resample("bilinear-antialias", "crop", 224, "floor"),
        real=Sampling("given", "shuffled", "random", 2048, storage=PLAIN),
        fake=Sampling("given", "shuffled", "first", 2048),
        ddof=1,
        statistics="float64",
        weights="rgb_scratch, from any of its files",
        source="this project, for new work; the reasons stand in docs/metrics-protocols.md",
    ),
    "google": FvdProtocol(
        epsilon=1e-3,
        resample=Resample("bilinear-tf1", "squash", 224),
        real=AS_GIVEN,
        fake=AS_GIVEN,
        ddof=1,
        statistics="float64",
        weights="TF-Hub deepmind/i3d-kinetics-400/1, which is rgb_scratch of kinetics-i3d",
        source="google-research/frechet_video_distance; arXiv:1812.01717",
    ),
    "styleganv": FvdProtocol(
        epsilon=1e-3,
        resample=SQUASHED,
        real=Sampling("train+test", "name", "random", 2048, short="discard", storage=STYLEGANV),
        fake=Sampling("given", "name", "first", 2048, short="discard"),
        ddof=0,
        statistics="float64",
        weights="i3d_torchscript.pt",
        source="universome/stylegan-v; arXiv:2112.14683",
    ),
    "styleganv-fixed": FvdProtocol(
        epsilon=1e-3,
        resample=SQUASHED,
        real=Sampling("train+test", "shuffled", "random", 2048, short="discard", storage=STYLEGANV_LOSSLESS),
        fake=Sampling("given", "shuffled", "first", 2048, short="discard"),
        ddof=0,
        statistics="float64",
        weights="i3d_torchscript.pt",
        source="styleganv, but real videos of all classes and lossless frames",
    ),
    "videogpt": FvdProtocol(
        epsilon=1e-5,
        resample=CROPPED,
        real=Sampling("test", "shuffled", "every", 256),
        fake=Sampling("given", "shuffled", "first", 256),
        ddof=1,
        statistics="float32",
        weights="i3d_pretrained_400.pt",
        source="wilson1yan/VideoGPT; arXiv:2104.10157",
    ),
    "tats": FvdProtocol(
        epsilon=1e-5,
        resample=SQUASHED,
        real=Sampling("train", "shuffled", "every", 2048, storage=TATS),
        fake=Sampling("given", "shuffled", "first", 2048),
        ddof=1,
        statistics="float32",
        weights="i3d_pretrained_400.pt",
        source="songweige/TATS; arXiv:2204.03638",
    ),
    "cdfvd": FvdProtocol(
        epsilon=1e-5,
        resample=SQUASHED,
        real=Sampling("given", "shuffled", "random", None, short="discard", storage=CDFVD),
        fake=Sampling("given", "shuffled", "random", 2048, short="discard", repeat=True, storage=CDFVD),
        ddof=0,
        statistics="float64",
        weights="i3d_pretrained_400.pt",
        source="songweige/content-debiased-fvd (cd-fvd 0.1.1, model i3d); arXiv:2404.12391",
    ),
    "common": FvdProtocol(
        epsilon=1e-3,
        resample=CROPPED,
        real=AS_GIVEN,
        fake=AS_GIVEN,
        ddof=1,
        statistics="float64",
        weights="i3d_torchscript.pt",
        source="JunyaoHu/common_metrics_on_video_quality, its method styleganv",
        min_frames=10,
    ),
}
DEFAULT_FVD = "clean"

IS: dict[str, IsProtocol] = {
    "tgan": IsProtocol(
        resample=Resample("bicubic", "squash", 128),
        sampling=Sampling("given", "shuffled", "first", 4 * 9984),
        crop=8,
        mean=(8, 29),
        epsilon=1e-7,
        splits=1,
        shuffle=None,
        n=9984,  # 10 000 // 48 batches of 48
        repeats=4,
        weights="conv3d_deepnetA_ucf.npz with mean2.npz",
        source="pfnet-research/tgan, evaluation/calc_inception.py; arXiv:1611.06624",
    ),
    "tgan2": IsProtocol(
        resample=TGAN2_INPUT,
        sampling=Sampling("given", "shuffled", "first", 10 * 2048),
        crop=0,
        mean=(8, 8),
        epsilon=1e-20,
        splits=1,
        shuffle=None,
        n=2048,
        repeats=10,
        weights="conv3d_deepnetA_ucf.npz with mean2.npz",
        source="pfnet-research/tgan2, scripts/compute_inception_score.py; arXiv:1811.09245",
    ),
    "styleganv": IsProtocol(
        resample=TGAN2_INPUT,
        sampling=Sampling("given", "name", "first", 2048),
        crop=0,
        mean=(8, 8),
        epsilon=0.0,
        splits=10,
        shuffle=42,
        n=2048,
        repeats=1,
        weights="c3d_ucf101.pt",
        source="universome/stylegan-v, isv2048_ucf; arXiv:2112.14683",
    ),
}
DEFAULT_IS = "tgan2"

RANDOM_FRAME = Sampling("given", "shuffled", "random", None)

FEATURES: dict[str, FeatureProtocol] = {
    "cdfvd-videomae": FeatureProtocol(
        network="videomae-g",
        features=1408,
        real=Sampling("given", "shuffled", "random", None, short="discard", storage=CDFVD),
        fake=Sampling("given", "shuffled", "random", 2048, short="discard", repeat=True, storage=CDFVD),
        ddof=0,
        frames=16,
        kernel="cubic",
        weights="vit_g_hybrid_pt_1200e_ssv2_ft.pth",
        source="songweige/content-debiased-fvd (cd-fvd 0.1.1, model videomae); arXiv:2404.12391",
        unstated="which random clips; its network was trained with a mean and deviation that its input leaves out",
    ),
    "jedi": FeatureProtocol(
        network="vjepa-h",
        features=1280,
        real=AS_GIVEN,
        fake=AS_GIVEN,
        ddof=1,
        frames=16,
        kernel="jedi",
        weights="vith16.pth.tar with ssv2-probe.pth.tar",
        source="oooolga/JEDi (videojedi 1.1.0 on vjepa 0.1.2); arXiv:2410.05203",
        unstated="frames, size and interpolation are its caller's: here the first 16 frames at their own size",
    ),
    "jedi-facebook": FeatureProtocol(
        network="vjepa-h-facebook",
        features=1280,
        real=AS_GIVEN,
        fake=AS_GIVEN,
        ddof=1,
        frames=16,
        kernel="jedi",
        weights="vith16.pth.tar with ssv2-probe.pth.tar",
        source="the same on facebookresearch/jepa 51c59d5, whose pooler does not use xattn.proj: other features",
        unstated="as jedi; no published number was made with it",
    ),
    "dino": FeatureProtocol(
        network="dino-b16",
        features=768,
        real=RANDOM_FRAME,
        fake=RANDOM_FRAME,
        ddof=1,
        frames=1,
        kernel="cubic",
        weights="dino_vitbase16_pretrain.pth",
        source="this project: one random frame of each video, by VBench's input of DINO",
        unstated="nothing is published: most such distances take other frames, resizes and DINO models",
    ),
    "clip": FeatureProtocol(
        network="clip-b32",
        features=512,
        real=RANDOM_FRAME,
        fake=RANDOM_FRAME,
        ddof=1,
        frames=1,
        kernel="cubic",
        weights="ViT-B-32.pt",
        source="this project: one random frame of each video, by VBench's input of CLIP",
        unstated="nothing is published: CMMD takes ViT-L/14 at 336 pixels and a Gaussian kernel",
    ),
}
