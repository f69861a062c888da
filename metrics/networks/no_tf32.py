"""Full float32 on GPUs, whose convolutions round their inputs to TF32 by default."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch


@contextmanager
def full_float32() -> Iterator[None]:
    """Within the block CUDA convolutions and matrix products keep all bits; afterwards the settings are restored."""
    cudnn: Any = torch.backends.cudnn  # its `conv` is there, its types do not say so
    convolutions, products = cudnn.conv, torch.backends.cuda.matmul
    before = convolutions.fp32_precision, products.fp32_precision
    convolutions.fp32_precision = products.fp32_precision = "ieee"
    try:
        yield
    finally:
        convolutions.fp32_precision, products.fp32_precision = before
