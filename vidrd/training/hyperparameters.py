"""How a stage is trained: what the training loop and a stored state agree on."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Recipe:
    """How a stage is trained."""

    steps: int
    batch: int
    learning_rate: float = 1e-3
    warmup: int = 100  # steps
    weight_decay: float = 0.01
    ema: float | int = 0.999  # decay of the averaged weights, which are the result; 0: none are kept, the last are it
    clip_norm: float = 1.0  # greatest norm of all gradients together
    precision: str = "bf16"  # of the forward pass: no | bf16 | fp16; the weights stay float32
    seed: int = 0
    save_every: int = 250  # steps
    schedule: str = "cosine"  # of the learning rate, by diffusers' names: a cosine falls to zero after the warm-up
    cycles: int = 1  # of cosine_with_restarts
    power: float | int = 1.0  # of polynomial
