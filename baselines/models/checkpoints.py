"""Published checkpoints of the families, as their authors name them on the hub; none was run by this project."""

from pathlib import Path
from typing import NamedTuple


class Checkpoint(NamedTuple):
    """A repository that diffusers can load."""

    id: str
    pipeline: str  # a key of baselines.models.families.FAMILIES
    parameters: float  # of the network that denoises, in G
    license: str  # as its page states it; read it there before use


CHECKPOINTS = (
    Checkpoint("Wan-AI/Wan2.1-T2V-1.3B-Diffusers", "WanPipeline", 1.3, "Apache 2.0"),
    Checkpoint("Wan-AI/Wan2.1-T2V-14B-Diffusers", "WanPipeline", 14, "Apache 2.0"),
    Checkpoint("Wan-AI/Wan2.2-T2V-A14B-Diffusers", "WanPipeline", 28, "Apache 2.0"),
    Checkpoint("Wan-AI/Wan2.2-TI2V-5B-Diffusers", "WanPipeline", 5, "Apache 2.0"),
    Checkpoint(
        "Skywork/SkyReels-V2-DF-1.3B-540P-Diffusers", "SkyReelsV2DiffusionForcingPipeline", 1.3, "Skywork's own"
    ),
    Checkpoint("Skywork/SkyReels-V2-DF-14B-540P-Diffusers", "SkyReelsV2DiffusionForcingPipeline", 14, "Skywork's own"),
    Checkpoint("Lightricks/LTX-Video", "LTXPipeline", 2, "Lightricks' own"),
    Checkpoint("zai-org/CogVideoX-2b", "CogVideoXPipeline", 2, "Apache 2.0"),
    Checkpoint("zai-org/CogVideoX-5b", "CogVideoXPipeline", 5, "CogVideoX's own"),
    Checkpoint("zai-org/CogVideoX1.5-5B", "CogVideoXPipeline", 5, "CogVideoX's own"),
    Checkpoint("hunyuanvideo-community/HunyuanVideo", "HunyuanVideoPipeline", 13, "Tencent's own"),
    Checkpoint("damo-vilab/text-to-video-ms-1.7b", "TextToVideoSDPipeline", 1.7, "CC BY-NC 4.0"),
    Checkpoint("cerspense/zeroscope_v2_576w", "TextToVideoSDPipeline", 1.7, "CC BY-NC 4.0"),
)


def revision_here(checkpoint: Checkpoint) -> str | None:
    """The revision of it that was fetched before, as its branch main was then; None: it is not here."""
    from huggingface_hub import try_to_load_from_cache  # noqa: PLC0415  (takes seconds to load)

    path = try_to_load_from_cache(checkpoint.id, "model_index.json")
    return Path(path).parent.name if isinstance(path, str) else None
