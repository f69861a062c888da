"""A folder of weights: every network is found by its published names, at any depth, and loaded once."""

from functools import cached_property
from pathlib import Path

from metrics.networks import vision
from metrics.networks import vision_files as files
from metrics.networks.vision import VisionFeatures
from metrics.text.prompts import ClipTokenizer, find_tokenizer
from metrics.videos.vision import ImagingMode
from metrics.weights.checkpoint import Checkpoint, find_checkpoint
from metrics.weights.errors import WeightsError


class WeightsFolder:
    """The networks of one folder, in the order in which they are asked for.

    Every property raises WeightsError where its file is missing or broken.
    """

    def __init__(
        self, path: Path | None, *, device: str = "cpu", batch: int = 8, imaging: ImagingMode = "longer"
    ) -> None:
        self.path, self.device, self.batch, self.imaging = path, device, batch, imaging

    def file(self, checkpoint: Checkpoint) -> Path:
        """A network's file.

        Raises:
            WeightsError: no folder, or nothing there.
        """
        if self.path is None:
            raise WeightsError(f"{checkpoint.network} needs {checkpoint.files[0]}: give --weights FOLDER")
        return find_checkpoint(self.path, checkpoint)

    @cached_property
    def dino(self) -> VisionFeatures:
        """DINO ViT-B/16, 768 features a frame."""
        return vision.load_dino(self.file(files.DINO), device=self.device, batch=self.batch)

    @cached_property
    def clip_b32(self) -> VisionFeatures:
        """CLIP ViT-B/32, 512 features a frame."""
        return vision.load_clip(self.file(files.CLIP_IMAGE["b32"]), "b32", device=self.device, batch=self.batch)

    @cached_property
    def clip_l14(self) -> VisionFeatures:
        """CLIP ViT-L/14, 768 features a frame."""
        return vision.load_clip(self.file(files.CLIP_IMAGE["l14"]), "l14", device=self.device, batch=self.batch)

    @cached_property
    def aesthetic(self) -> VisionFeatures:
        """CLIP ViT-L/14 with LAION's linear head, one number a frame."""
        clip, head = self.file(files.CLIP_IMAGE["l14"]), self.file(files.AESTHETIC)
        return vision.load_aesthetic(clip, head, device=self.device, batch=self.batch)

    @cached_property
    def musiq(self) -> VisionFeatures:
        """MUSIQ-SPAQ, one number a frame."""
        return vision.load_musiq(self.file(files.MUSIQ), self.imaging, device=self.device, batch=self.batch)

    @cached_property
    def viclip(self) -> VisionFeatures:
        """ViCLIP-L/14, 768 features of a clip of 8 frames."""
        return vision.load_viclip(self.file(files.VICLIP_CLIP), device=self.device)

    @cached_property
    def tokenizer(self) -> ClipTokenizer | None:
        """CLIP's tokenizer, where the folder has its table of merges."""
        return find_tokenizer(self.path)
