"""A set's statistics, rows and manifest in an .npz, from which it is scored again without its videos."""

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from metrics.distribution.frechet import Gaussian, read_statistics
from metrics.evaluation.cache import hash_of_makers
from metrics.evaluation.cautions import Content, Look
from metrics.evaluation.dataset import FeatureSet
from metrics.evaluation.result import differences
from metrics.files import replacing
from metrics.networks.features import Features


def save_statistics(path: Path | str, features: FeatureSet, made_by: Mapping[str, object]) -> None:
    """Write the file, whole or not at all; `made_by` is what `load_statistics` must find unchanged."""
    gaussian = Gaussian.of(features.features.embedding)
    logits = {f"logits/{head}": rows for head, rows in features.features.logits.items()}
    with replacing(path) as part, part.open("wb") as file:
        np.savez(
            file,
            allow_pickle=False,
            n=gaussian.n,
            mean=gaussian.mean,
            scatter=gaussian.scatter,
            embedding=features.features.embedding,
            source=features.source,
            code=np.array(hash_of_makers()),
            origins=np.array(features.content.origins, dtype=np.str_),
            looks=np.array(features.content.looks, dtype=np.int64).reshape(-1, 3),
            manifest=np.array(json.dumps({"side": features.manifest, "made_by": made_by})),
            **logits,
        )


def load_statistics(path: Path | str, made_by: Mapping[str, object]) -> FeatureSet:
    """Read the file; nothing in it is executed.

    Raises:
        ValueError: it is broken, or was made by something else.
    """
    arrays = read_statistics(path)
    gaussian = Gaussian.of_arrays(arrays, path)
    try:
        manifests = json.loads(str(arrays["manifest"]))
        logits = {name[7:]: rows for name, rows in arrays.items() if name.startswith("logits/")}
        content = Content(
            [str(origin) for origin in arrays["origins"]],
            [Look(*row) for row in arrays["looks"].tolist()],
            stale=str(arrays["code"]) != hash_of_makers(),
        )
        rows = Features(arrays["embedding"], logits)
        features = FeatureSet(rows, arrays["source"], manifests["side"], content=content)
        before = manifests["made_by"]
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"{path} holds statistics without their manifest: {error}; save them again") from error
    n, mean, embedding = gaussian.n, gaussian.mean, rows.embedding
    if any(len(each) != n for each in (embedding, features.source, *logits.values())):
        raise ValueError(f"{path} is not whole: n is {n}, not all its arrays have as many rows; save it again")
    if embedding.shape[1:] != mean.shape or not np.allclose(embedding.mean(axis=0, dtype=np.float64), mean):
        raise ValueError(f"{path} is not whole: its statistics are not those of its rows; save it again")
    if different := differences(before, json.loads(json.dumps(made_by))):
        raise ValueError(f"{path} was made otherwise: {'; '.join(different[:3])}; save it again")
    return features
