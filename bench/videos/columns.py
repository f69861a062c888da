"""What the columns of the suites of videos mean. A new one is an entry here and a line in `bench.videos.quality`."""

from bench.harness.suite_spec import Measure

MEASURES: dict[str, Measure] = {
    "fvd": Measure(
        "FVD", "", "lower", "quality",
        "Fréchet distance between features of the generated videos and of `real_videos` real ones, in windows of "
        "`window` frames, by the pocket I3D-like judge. `real_captions`: the real ones show the same captions or other "
        "scenes. Real video's own row is the floor: further real scenes of the captions, at equal n. Biased upward at "
        "small n: compare within one table only.",
    ),
    "fvd_inside": Measure(
        "FVD inside", "", "lower", "quality",
        "The same over windows of `clip` frames, one a video, that end at a seam and hold none: the clips themselves. "
        "Compares with FVD across and no other column.",
    ),
    "fvd_across": Measure(
        "FVD across", "", "lower", "quality",
        "The same over as many windows of `clip` frames with a seam in the middle: what the joining costs.",
    ),
    "drift": Measure(
        "drift", "1/clip", "real", "quality",
        "FVD that windows of `clip` frames gain from one clip's length to the next along the video: 0 = none, above = "
        "the video gets worse.",
    ),
    "is": Measure(
        "IS", "", "higher", "quality",
        "Inception Score over the action classes of the pocket C3D-like judge, in windows of `window` frames; at most "
        "the number of classes.",
    ),
    "flicker": Measure("flicker", "1/frame", "real", "quality", "Mean absolute change from frame to frame, of 1."),
    "jitter": Measure(
        "jitter", "", "real", "quality",
        "Share of the change from frame to frame that the next frame takes back, in [0, 1]; white noise has 0.87.",
    ),
    "seam_d": Measure(
        "seam D", "log2", "real", "quality",
        "log2 of the change across the seams against the median change elsewhere: 0 = no seam to be seen, above = a "
        "cut, below = a held frame. Real video has no seams: measured where clips of `clip` frames would meet.",
    ),
    "seam_a": Measure(
        "seam A", "log2", "real", "quality", "The same for the second difference, which sees motion turn round."
    ),
    "seam_off": Measure(
        "|seam D|", "log2", "real", "quality",
        "Mean distance of seam D from 0, video by video: held frames and cuts both count and do not cancel, so that a "
        "frozen seam does not win; seam D says the direction.",
    ),
    "motion": Measure(
        "motion", "", "real", "quality",
        "Root mean square change over two frames beyond that over one, of 1; a still video has 0.",
    ),
    "duplicates": Measure(
        "held", "", "real", "quality",
        "Share of seams at which the frame is held: it changes by at most a quarter of the median.",
    ),
    "mirror": Measure(
        "mirror", "", "real", "quality",
        "How far a clip plays the one before it backwards: 1 = exactly, 0 = no nearer than any frames as far apart.",
    ),
    "repeat": Measure(
        "repeat", "", "real", "quality",
        "How far every second clip is alike, on the same scale; needs more than two clips.",
    ),
    **{
        name: Measure(
            name, "", "higher", "prompt",
            f"Share of windows in which the I3D-like judge sees the {name} that the caption names, in [0, 1]. Real "
            "video's own row is the judge's accuracy.",
        )
        for name in ("action", "shape", "colour", "texture", "background")
    },
    "seconds_per_frame": Measure(
        "s/frame", "s", "lower", "cost",
        "Text, denoising and decoding of a batch, divided by its frames: the median over batches, after one warm-up "
        "call of 2 steps.",
    ),
    "text_seconds": Measure(
        "text s", "s", "lower", "cost", "Prompts to embeddings, for a batch of `batch` videos: the median over batches."
    ),
    "denoise_seconds": Measure("denoise s", "s", "lower", "cost", "Noise to latents, likewise."),
    "decode_seconds": Measure("decode s", "s", "lower", "cost", "Latents to 8-bit RGB frames, likewise."),
    "residual_seconds": Measure("rest s", "s", "lower", "cost", "What a batch takes beyond its three stages."),
    "step_seconds": Measure("step s", "s", "lower", "cost", "One denoising step: the median over all of all batches."),
    **{
        f"{stage}_share": Measure(
            f"{stage} %", "%", "higher", "cost",
            f"Share of the {stage} time that this machine needs at its peaks (a matrix product's arithmetic, the "
            "fastest copy's bytes) for the products, convolutions and attentions in it, all else free. A stage that "
            "left arithmetic out and came above 100 % is invalid.",
        )
        for stage in ("text", "denoise", "decode")
    },
    "load_seconds": Measure("load s", "s", "lower", "cost", "Weights to a pipeline on the device, imports left out."),
    "cold_seconds": Measure("cold s", "s", "lower", "cost", "The very first call, of 2 steps."),
    "joules_per_video": Measure(
        "J/video", "J", "lower", "cost",
        "Energy of the GPU by NVML's counter over a window of a second or more, in a pass of its own; nothing "
        "subtracted for an idle card.",
    ),
    "fe_per_frame": Measure(
        "fe/frame", "1/frame", "lower", "cost",
        "Frame evaluations: frames summed over network calls, both branches of guidance counted, per frame of the "
        "video. Checked against the calls that were made.",
    ),
    "steps": Measure(
        "steps", "", None, "cost",
        "Denoising steps taken. At equal fe the most whose fe/frame is at most `steps` times the branches; at equal "
        "seconds the most that take as long as independent clips of `steps` steps, by two short runs of each.",
    ),
    "process_peak": Measure(
        "RSS", "bytes", "lower", "cost",
        "Largest resident memory of the process up to the last decoded batch: Python, libraries and weights included, "
        "the judges not.",
    ),
    "allocated_peak": Measure(
        "GPU alloc", "bytes", "lower", "cost", "Largest sum of live tensors on the GPU in the timed batches (PyTorch)."
    ),
    "reserved_peak": Measure(
        "GPU reserved", "bytes", "lower", "cost", "Largest memory that PyTorch's allocator held in the timed batches."
    ),
    "driver_peak": Measure(
        "GPU process", "bytes", "lower", "cost",
        "GPU memory that the driver counts for the process (NVML), CUDA's own included: the largest of many looks "
        "while one batch is made, in a pass of its own.",
    ),
}  # fmt: skip

# What optical flow adds: a second's work a cell, measured where a suite names one of them.
FLOW_MEASURES: dict[str, Measure] = {
    "seam_w": Measure(
        "seam W", "log2", "real", "quality",
        "As seam D, of the change that motion does not explain (warp error along classical flow).",
    ),
    "seam_df": Measure(
        "seam dF", "log2", "real", "quality", "As seam D, of the change of the flow itself: motion that jumps or turns."
    ),
    "boomerang": Measure(
        "boomerang", "", "real", "quality",
        "How far motion turns round at the seams: 0 = as elsewhere, 1 = exactly reversed, by classical flow.",
    ),
    "dynamic_degree": Measure(
        "moves", "", "real", "quality",
        "Share of videos that move by VBench's rule, with classical flow at the rate of the frames given.",
    ),
    "saturation_drift": Measure(
        "colour drift", "", "real", "quality",
        "How much more colourful the last quarter of a video is than the first; below 0 it turns grey.",
    ),
}  # fmt: skip
