"""Latents to video, clip by clip as they are finished: on CUDA, while the next clips are denoised."""

import torch
from jaxtyping import Float, UInt8
from numpy import concatenate, ndarray
from torch import Tensor

from vidrd.models.blocks import frames_of
from vidrd.models.vae import AutoencoderKLTemporal
from vidrd.video import to_uint8


class ClipDecoder:
    """Decodes videos whose frames come in pieces; the result does not depend on the pieces.

    The VAE sees clips that begin at multiples of `clip`, never across them. A last clip that was cropped is decoded as
    the shorter clip that it is.

    Args:
        vae: of the pipeline.
        clip: frames that the decoder sees together; 1: each alone.
        chunk: frames decoded at once, at least one clip.
        aside: on CUDA, decode in a stream of its own, so that `add` does not wait.
    """

    def __init__(self, vae: AutoencoderKLTemporal, *, clip: int, chunk: int = 64, aside: bool = False):
        self._vae, self._clip, self._chunk = vae, clip, chunk
        self._stream = torch.cuda.Stream(vae.device) if aside and vae.device.type == "cuda" else None
        self._waiting: list[Tensor] = []  # frames that do not fill a clip yet
        self._pixels: list[Tensor] = []  # B C T h w, as they come out of the VAE

    @torch.no_grad()
    def add(self, latents: Float[Tensor, "B C T H W"]) -> None:
        """Take the videos' next frames, and decode all complete clips."""
        self._waiting.append(latents)
        frames = sum(part.shape[2] for part in self._waiting)
        whole = frames - frames % self._clip
        if whole:
            joined = torch.cat(self._waiting, dim=2)
            self._waiting = [joined[:, :, whole:]]
            self._decode(joined[:, :, :whole], self._clip)

    @torch.no_grad()
    def finish(self) -> UInt8[ndarray, "B T h w 3"]:
        """Decode the rest; returns all frames in order."""
        left = torch.cat(self._waiting, dim=2)
        if left.shape[2]:
            self._decode(left, left.shape[2])
        self._waiting = []
        if self._stream is not None:
            torch.cuda.current_stream(self._vae.device).wait_stream(self._stream)
        return concatenate([to_uint8(pixels) for pixels in self._pixels], axis=1)

    def _decode(self, latents: Float[Tensor, "B C T H W"], frames: int) -> None:
        if self._stream is None:
            self._pixels.append(self._pixels_of(latents, frames))
            return
        self._stream.wait_stream(torch.cuda.current_stream(self._vae.device))
        with torch.cuda.stream(self._stream):
            self._pixels.append(self._pixels_of(latents, frames))
        latents.record_stream(self._stream)  # its memory is not given away while it is read there

    def _pixels_of(self, latents: Float[Tensor, "B C T H W"], frames: int) -> Float[Tensor, "B 3 T h w"]:
        z = frames_of(latents.to(self._vae.dtype) / self._vae.config.scaling_factor)
        pieces = z.split(max(1, self._chunk // frames) * frames)
        pixels = torch.cat([self._vae.decode(piece, num_frames=frames).sample.float() for piece in pieces])
        return pixels.unflatten(0, (len(latents), -1)).transpose(1, 2)
