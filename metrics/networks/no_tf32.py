"""float32 that is float32: a GPU's convolutions round their inputs to TF32 unless told not to."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch


@contextmanager
def full_float32() -> Iterator[None]:
    """Within the block CUDA convolutions and matrix products keep all bits; the settings before come back after it."""
    cudnn: Any = torch.backends.cudnn  # its `conv` is there, its types do not say so
    convolutions, products = cudnn.conv, torch.backends.cuda.matmul
    before = convolutions.fp32_precision, products.fp32_precision
    convolutions.fp32_precision = products.fp32_precision = "ieee"
    try:
        yield
    finally:
        convolutions.fp32_precision, products.fp32_precision = before
