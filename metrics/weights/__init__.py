"""Weights of feature networks: read from the files people have, checked whole, nothing in them executed."""

from metrics.weights.errors import WeightsError
from metrics.weights.load import LoadedTensors, export, load
from metrics.weights.safetensors_files import broken, check_shapes, load_safetensors_verified

__all__ = ["LoadedTensors", "WeightsError", "broken", "check_shapes", "export", "load", "load_safetensors_verified"]
