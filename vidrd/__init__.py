"""VidRD ("Reuse and Diffuse", arXiv 2309.03549): long videos from a short-clip model by reusing noise and latents.

Start with `vidrd/pipeline.py`. Letters in shapes: B videos in a batch, N videos in a set, C channels, T frames, H W
height and width, L text tokens, D width. Networks take B C T H W in [-1, 1]; videos at rest are N T H W C, uint8 RGB.
"""
