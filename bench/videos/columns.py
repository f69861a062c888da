"""The columns of the suites of videos. A new one is an entry here and a line in `bench.videos.quality`."""

from bench.harness.suite_spec import Measure


def _prose(name: str) -> str:
    """A key in American spelling."""
    return name.replace("colour", "color")


MEASURES: dict[str, Measure] = {
    "fvd": Measure(
        "FVD", "", "lower", "quality",
        "Fréchet distance between features of the generated videos and of `real_videos` real ones, in windows of "
        "`window` frames, by the pocket I3D-like classifier. `real_captions` says whether the real ones show the same "
        "captions or other scenes. The row of real video is the floor: other real scenes of the captions, at equal n. "
        "Biased upward at small n, so compare only within one table.",
    ),
    "fvd_inside": Measure(
        "FVD inside", "", "lower", "quality",
        "The same over windows of `clip` frames, one per video, that end at a seam and contain none: the clips "
        "themselves. Comparable only with FVD across.",
    ),
    "fvd_across": Measure(
        "FVD across", "", "lower", "quality",
        "The same over as many windows of `clip` frames with a seam in the middle: the effect of joining clips.",
    ),
    "drift": Measure(
        "drift", "1/clip", "real", "quality",
        "How much the FVD of windows of `clip` frames grows per clip's length along the video: 0 = not at all, above "
        "0 = the video gets worse.",
    ),
    "is": Measure(
        "IS", "", "higher", "quality",
        "Inception Score over the action classes of the pocket C3D-like classifier, in windows of `window` frames; "
        "at most the number of classes.",
    ),
    "flicker": Measure(
        "flicker", "1/frame", "real", "quality", "Mean absolute change from frame to frame, with pixels in [0, 1]."
    ),
    "jitter": Measure(
        "jitter", "", "real", "quality",
        "Share of the change from frame to frame that the next frame reverts, in [0, 1]; white noise has 0.87.",
    ),
    "seam_d": Measure(
        "seam D", "log2", "real", "quality",
        "log2 of the change across the seams relative to the median change elsewhere: 0 = no visible seam, above 0 = a "
        "cut, below 0 = a held frame. Real video has no seams; it is measured where clips of `clip` frames would meet.",
    ),
    "seam_a": Measure(
        "seam A", "log2", "real", "quality", "The same for the second difference, which detects motion that reverses."
    ),
    "seam_off": Measure(
        "|seam D|", "log2", "real", "quality",
        "Mean distance of seam D from 0, video by video: held frames and cuts both count and do not cancel, so a "
        "frozen seam gains nothing; seam D has the direction.",
    ),
    "motion": Measure(
        "motion", "", "real", "quality",
        "Root mean square change over two frames beyond that over one, with pixels in [0, 1]; a still video has 0.",
    ),
    "duplicates": Measure(
        "held", "", "real", "quality",
        "Share of seams at which a frame is held: the change is at most a quarter of the median.",
    ),
    "mirror": Measure(
        "mirror", "", "real", "quality",
        "How closely a clip plays the previous one backwards: 1 = exactly, 0 = no more alike than any frames as far "
        "apart.",
    ),
    "repeat": Measure(
        "repeat", "", "real", "quality",
        "How much alike every second clip is, on the same scale; needs more than two clips.",
    ),
    **{
        name: Measure(
            name, "", "higher", "prompt",
            f"Share of windows in which the I3D-like classifier recognizes the {_prose(name)} that the caption "
            "names, in [0, 1]. The row of real video is the classifier's accuracy.",
        )
        for name in ("action", "shape", "colour", "texture", "background")
    },
    "seconds_per_frame": Measure(
        "s/frame", "s", "lower", "cost",
        "Text, denoising and decoding of a batch, divided by its frames: the median over batches, after "
        "warm-up calls of 2 steps.",
    ),
    "text_seconds": Measure(
        "text s", "s", "lower", "cost",
        "From prompts to embeddings, per batch of `batch` videos: the median over batches.",
    ),
    "denoise_seconds": Measure("denoise s", "s", "lower", "cost", "From noise to latents, likewise."),
    "decode_seconds": Measure("decode s", "s", "lower", "cost", "From latents to 8-bit RGB frames, likewise."),
    "residual_seconds": Measure("rest s", "s", "lower", "cost", "The time of a batch beyond its three stages."),
    "step_seconds": Measure(
        "step s", "s", "lower", "cost", "One denoising step: the median over all steps of all batches."
    ),
    **{
        f"{stage}_share": Measure(
            f"{stage} %", "%", "higher", "cost",
            f"The time that this machine needs at its peaks (arithmetic of a product, bytes of the fastest copy) "
            f"for the products, convolutions and attentions of this stage, relative to the {stage} time. A stage that "
            "skips arithmetic, and so exceeds 100 %, is invalid.",
        )
        for stage in ("text", "denoise", "decode")
    },
    "load_seconds": Measure(
        "load s", "s", "lower", "cost", "From weights on the disk to a pipeline on the device, without imports."
    ),
    "cold_seconds": Measure("cold s", "s", "lower", "cost", "The very first call, of 2 steps."),
    "joules_per_video": Measure(
        "J/video", "J", "lower", "cost",
        "Energy of the GPU by NVML's counter over a second or more, in a pass of its own; the energy of the idle GPU "
        "is not subtracted.",
    ),
    "fe_per_frame": Measure(
        "fe/frame", "1/frame", "lower", "cost",
        "Frame evaluations: frames summed over network calls, both branches of guidance counted, per frame of the "
        "video (latent frames, where the VAE compresses time). Checked against the calls that were made.",
    ),
    "steps": Measure(
        "steps", "", None, "cost",
        "Denoising steps taken. At equal fe, the most whose fe/frame is at most `steps` times the branches; at equal "
        "seconds, the most that take no longer than independent clips of `steps` steps, by two short runs of each.",
    ),
    "process_peak": Measure(
        "RSS", "bytes", "lower", "cost",
        "Largest resident memory of the process up to the last decoded batch, with Python, libraries and weights, but "
        "without the classifiers.",
    ),
    "allocated_peak": Measure(
        "GPU alloc", "bytes", "lower", "cost", "Largest sum of live tensors on the GPU in the timed batches (PyTorch)."
    ),
    "reserved_peak": Measure(
        "GPU reserved", "bytes", "lower", "cost", "Largest memory that PyTorch's allocator held in the timed batches."
    ),
    "driver_peak": Measure(
        "GPU process", "bytes", "lower", "cost",
        "GPU memory that the driver counts for the process (NVML), CUDA's own included: the largest of many samples "
        "while one batch is made, in a pass of its own.",
    ),
}  # fmt: skip

# Measures by the judges of the pocket world, or against real video.
JUDGED = ("fvd", "fvd_inside", "fvd_across", "drift", "is", "action", "shape", "colour", "texture", "background")

# Measures against a folder of real videos (--real), by the metrics' own evaluator (bench/videos/real_videos.py).
REAL_MEASURES: dict[str, Measure] = {
    "fvd": Measure(
        "FVD", "", "lower", "quality",
        "Fréchet distance between features of the generated videos and of the real ones in --real, under the protocol "
        "that the cell names. The facts of the cell have its floor. Biased upward at small n, so compare only within "
        "one table.",
    ),
    "kvd": Measure(
        "KVD", "", "lower", "quality",
        "Kernel distance of the same features, unbiased, so that it may be negative; JEDi's under its protocols.",
    ),
    "is": Measure(
        "IS", "", "higher", "quality", "Inception Score of the generated videos, where the protocol has one."
    ),
}  # fmt: skip

# Measures by optical flow: they take a second per cell and are computed only in suites that list one of them.
FLOW_MEASURES: dict[str, Measure] = {
    "seam_w": Measure(
        "seam W", "log2", "real", "quality",
        "As seam D, for the change that motion does not explain (warp error along classical flow).",
    ),
    "seam_df": Measure(
        "seam dF", "log2", "real", "quality",
        "As seam D, for the change of the flow itself: motion that jumps or turns.",
    ),
    "boomerang": Measure(
        "boomerang", "", "real", "quality",
        "How far motion reverses at the seams: 0 = as elsewhere, 1 = exactly, by classical flow.",
    ),
    "dynamic_degree": Measure(
        "moves", "", "real", "quality",
        "Share of videos that move, by VBench's rule, with classical flow at the given frame rate.",
    ),
    "saturation_drift": Measure(
        "colour drift", "", "real", "quality",
        "How much more colorful the last quarter of a video is than the first; below 0 it turns gray.",
    ),
}  # fmt: skip

# Measures of videos whose prompt changes on the way.
CHANGE_MEASURES: dict[str, Measure] = {
    **{
        f"own_{name}": Measure(
            f"own {name}", "", "higher", "prompt",
            f"Share of windows of 8 frames inside a segment in which the I3D-like classifier recognizes the "
            f"{_prose(name)} that the segment's own text names, in [0, 1]. The row of real video is its accuracy.",
        )
        for name in ("colour", "action")
    },
    "old": Measure(
        "old", "", "lower", "prompt",
        "Share of windows inside a later segment in which the color or the action of the text before is still seen.",
    ),
    "kept": Measure(
        "kept", "", "higher", "prompt",
        "Share of windows, and of shape, texture and background, in which what no text changes is recognized.",
    ),
    "lag": Measure(
        "lag", "frames", "real", "prompt",
        "How many frames after the text the color changes, by which of the two the classifier prefers in windows of 8 "
        "frames centered at every frame: below 0 it changes early.",
    ),
    "crossing": Measure(
        "crossing", "frames", "real", "prompt",
        "How many frames the change of color takes: the sum of 4p(1 - p) over such windows, p the share of the new "
        "color between the two. Real video changes within a frame; its value is that of the windows.",
    ),
    "change_d": Measure(
        "change D", "log2", "real", "quality",
        "As seam D, at the frames where the text changes: above real video's value = a cut, below = a slow change.",
    ),
    "fvd_change": Measure(
        "FVD change", "", "lower", "quality",
        "Fréchet distance over windows of 8 frames with a change of the text in the middle, from real video that shows "
        "the same change. The row of real video is the floor, at equal n.",
    ),
    "fvd_apart": Measure(
        "FVD apart", "", "lower", "quality",
        "The same over windows as far from the changes as can be. What a change costs is FVD change beyond it.",
    ),
}  # fmt: skip

GAPS = (1, 2, 5, 10, 20, 50)  # clips of `clip` frames

# Measures of videos of minutes, over their whole length.
LONG_MEASURES: dict[str, Measure] = {
    "fvd_start": Measure(
        "FVD start", "", "lower", "quality",
        "Fréchet distance over windows of `clip` frames in the first 15 % of the videos, from those of real video of "
        "the same captions. Real video's row is the floor at this n.",
    ),
    "fvd_end": Measure("FVD end", "", "lower", "quality", "The same in the last 15 %."),
    **{
        f"alike_{gap}": Measure(
            f"alike {gap}", "", "real", "quality",
            f"Mean cosine of the classifier's features of clips {gap} apart. Below real video's, content is lost; "
            "above it, it is frozen or comes back.",
        )
        for gap in GAPS
    },
    "contrast_drift": Measure(
        "contrast", "", "real", "quality",
        "|start - end| of the frames' contrast (standard deviation of pixels in [0, 1]), first and last 15 %.",
    ),
    "color_step": Measure(
        "color step", "gray levels", "real", "quality", "Mean change of the mean color from clip to clip."
    ),
    "held_frames": Measure(
        "held frames", "", "real", "quality",
        "Share of all steps from frame to frame that change at most a quarter of the median.",
    ),
    "cycle": Measure(
        "cycle", "", "real", "quality",
        "Highest autocorrelation of the classifier's features of clips over all lags from 2 clips to half the video.",
    ),
    "cycle_lag": Measure("cycle lag", "clips", "real", "quality", "The lag of that: clips until content comes back."),
    "identity": Measure(
        "identity", "", "higher", "prompt",
        "Share of shape, color, texture and background, over all clips, that the classifier sees as in the first clip.",
    ),
    "identity_end": Measure("identity end", "", "higher", "prompt", "The same in the last 15 %."),
    "action_end": Measure(
        "action end", "", "higher", "prompt", "Share of clips in the last 15 % that show the caption's action."
    ),
}  # fmt: skip

# Measures of videos that go on from given frames.
CONTINUATION_MEASURES: dict[str, Measure] = {
    "near": Measure(
        "near", "gray levels", "lower", "quality",
        "Mean distance of the `clip` frames after the given ones from what their source shows there, in gray levels.",
    ),
    "far": Measure(
        "far", "gray levels", "lower", "quality",
        "The same of the last `clip` frames: the drift from the source. A caption leaves the course of a video open, "
        "so 0 is for the source alone.",
    ),
}  # fmt: skip

COLUMNS: dict[str, Measure] = (
    REAL_MEASURES | MEASURES | FLOW_MEASURES | CHANGE_MEASURES | LONG_MEASURES | CONTINUATION_MEASURES
)
