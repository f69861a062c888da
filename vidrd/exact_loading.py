"""Networks from folders: every tensor is loaded, or none; no library asks a hub for anything."""

import hashlib
import io
import json
import logging
import pickle
import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from diffusers.utils import logging as diffusers_log
from huggingface_hub import constants, snapshot_download
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.utils import logging as transformers_log

logger = logging.getLogger(__name__)
CONSTANTS = ("position_ids",)  # ends of keys that networks make themselves


@contextmanager
def quiet() -> Iterator[None]:
    """Keep the libraries from the network, and hide their progress bars and messages about files."""
    before = [(log, log.get_verbosity(), log.is_progress_bar_enabled()) for log in (diffusers_log, transformers_log)]
    offline = constants.HF_HUB_OFFLINE
    try:
        constants.HF_HUB_OFFLINE = True
        for log, _, _ in before:
            log.set_verbosity_error()
            log.disable_progress_bar()
        yield
    finally:
        constants.HF_HUB_OFFLINE = offline
        for log, verbosity, bar in before:
            log.set_verbosity(verbosity)
            if bar:
                log.enable_progress_bar()


def find_model(name: str) -> Path:
    """The folder of a model: a path, or the id of a repository that was fetched before.

    Raises:
        ValueError: it is not here.
    """
    if Path(name).is_dir():
        return Path(name)
    try:
        with quiet():
            return Path(snapshot_download(name, local_files_only=True))
    except (OSError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"the model {name} is not here ({reason}): name the folder of a copy") from error


def load_network(
    kind: Any,  # class of transformers or diffusers
    folder: Path,
    *,
    dtype: torch.dtype = torch.float32,
    hashes: Mapping[str, str] | None = None,  # sha256 that files must have, by name
) -> Any:
    """A network from its folder, exactly as its class and configuration say, in evaluation mode.

    Every file is read once, and what was hashed is what is loaded.

    Raises:
        ValueError: a file is missing, unreadable or has another hash; the files lack tensors, hold others, or have them
            in other shapes; the message names the first ones.
    """
    wanted = hashes or {}
    config = parse_json(read_once(folder / "config.json", wanted.get("config.json")), folder / "config.json")
    state: dict[str, Tensor] = {}
    for path in _weight_files(folder):
        state |= tensors_of(read_once(path, wanted.get(path.name)), path)
    if issubclass(kind, PreTrainedModel):
        with quiet():
            network, report = kind.from_pretrained(
                None,
                config=kind.config_class.from_dict(config),
                state_dict=state,
                output_loading_info=True,
                ignore_mismatched_sizes=True,  # they are refused below, by name
                dtype=dtype,
            )
        _refuse_reported(folder, report)
        return network.eval()
    with quiet(), torch.device("meta"):
        network = kind.from_config(config)
    load_exactly(str(folder), network, state)
    with quiet():
        return network.to(dtype).eval()


def load_reported(kind: Any, folder: Path, dtype: torch.dtype) -> Any:
    """A network of transformers or diffusers as that library loads it, which knows older names of its tensors.

    Tensors that the network does not have are left out with a warning: published files hold such leftovers.

    Raises:
        ValueError: the files lack tensors, or have them in other shapes; the message names the first ones.
    """
    network, report = kind.from_pretrained(
        str(folder), dtype=dtype, local_files_only=True, output_loading_info=True, ignore_mismatched_sizes=True
    )
    if unknown := report["unexpected_keys"]:
        logger.warning("%s has unknown %s; left out", folder, first_keys(unknown))
    _refuse_reported(folder, {**report, "unexpected_keys": ()})
    return network


def _refuse_reported(folder: Path, report: Mapping[str, Any]) -> None:
    """Refuse what transformers and diffusers report of a load."""
    _refuse(str(folder), report["missing_keys"], report["unexpected_keys"])
    if report["mismatched_keys"]:
        raise ValueError(
            f"{folder} has tensors of another shape: {first_keys(str(k[0]) for k in report['mismatched_keys'])}"
        )


def _weight_files(folder: Path) -> list[Path]:
    """The files that hold a network's tensors: one, or those that an index lists; safetensors first."""
    names = ("diffusion_pytorch_model.safetensors", "model.safetensors", "diffusion_pytorch_model.bin",
             "pytorch_model.bin")  # fmt: skip
    for name in names:
        index = folder / f"{name}.index.json"
        if index.is_file():
            shards = parse_json(read_once(index), index).get("weight_map", {})
            held = sorted({Path(str(shard)).name for shard in shards.values()} if isinstance(shards, dict) else ())
            return [folder / shard for shard in held]
        if (folder / name).is_file():
            return [folder / name]
    raise ValueError(f"{folder} must hold {', '.join(names[:3])} or {names[3]}: none is there")


def read_once(path: Path, expected: str | None = None) -> bytes:
    """A regular file's bytes, which have the expected sha256.

    Raises:
        ValueError: it is missing, no regular file, or has another hash.
    """
    if not path.is_file():
        raise ValueError(f"{path} is missing: restore it, or name its folder")
    data = path.read_bytes()
    if expected is not None and hashlib.sha256(data).hexdigest() != expected:
        raise ValueError(f"{path} is not the file whose hash was expected (cut short or altered): restore it")
    return data


def parse_json(data: bytes, path: Path) -> dict[str, Any]:
    """The JSON object of a file.

    Raises:
        ValueError: it holds something else.
    """
    try:
        read = json.loads(data.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} cannot be read as JSON: {error}") from error
    if not isinstance(read, dict):
        raise ValueError(f"{path} must hold a JSON object")
    return read


def tensors_of(data: bytes, path: Path) -> dict[str, Tensor]:
    """The tensors of a checkpoint's bytes by key, without executing anything that they may hold.

    Raises:
        ValueError: they are broken, hold other objects than tensors, or no tensors.
    """
    try:
        if path.suffix == ".safetensors":
            return safetensors.torch.load(data)
        with warnings.catch_warnings(action="ignore"):  # of unusual pickles, which are refused if they hold more
            loaded = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except Exception as error:  # whatever a reader of broken files may raise
        lines = (str(error) or type(error).__name__).splitlines()
        code = next((line.strip() for line in lines if "global" in line.lower()), "")
        if isinstance(error, pickle.UnpicklingError) and code:
            raise ValueError(
                f"{path} is refused: it holds objects or code besides tensors, which loading would run ({code[:160]}); "
                "save the tensors alone as .safetensors where the file is trusted"
            ) from error
        if isinstance(error, pickle.UnpicklingError):  # its message advises to run what the file holds
            lines = [f"it is cut short or no file of PyTorch's, and begins with {data[:12]!r}"]
        raise ValueError(f"{path} cannot be read as a checkpoint: {lines[0][:200]}") from error
    state = loaded.get("state_dict", loaded) if isinstance(loaded, dict) else loaded
    held = state.items() if isinstance(state, dict) else ()
    tensors = {key: value for key, value in held if isinstance(key, str) and isinstance(value, Tensor)}
    if not tensors or len(tensors) != len(state):
        raise ValueError(
            f'{path} must hold {{"state_dict": {{key: tensor}}}} or {{key: tensor}}, and holds other things'
        )
    return tensors


def load_exactly(name: str, model: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Load a state dict whose keys and shapes are the model's, without copying (the model may be on `meta`).

    Raises:
        ValueError: keys are missing or unknown, or shapes differ; the message names them.
    """
    wanted = model.state_dict()
    _refuse(name, wanted.keys() - state.keys(), state.keys() - wanted.keys())
    for key, value in wanted.items():
        if value.shape != state[key].shape:
            raise ValueError(
                f"{name} has {key} of shape {tuple(state[key].shape)}, the configuration asks for "
                f"{tuple(value.shape)}: it belongs to another configuration"
            )
    model.load_state_dict(state, strict=True, assign=True)


def _refuse(name: str, missing: Iterable[str], unknown: Iterable[str]) -> None:
    lacking = [key for key in missing if not key.endswith(CONSTANTS)]
    extra = [key for key in unknown if not key.endswith(CONSTANTS)]
    faults = [f"lacks {first_keys(lacking)}"] * bool(lacking) + [f"has unknown {first_keys(extra)}"] * bool(extra)
    if faults:
        raise ValueError(f"{name} {' and '.join(faults)}: restore it, or take the configuration that belongs to it")


def first_keys(keys: Iterable[str]) -> str:
    """The first few keys, and how many more there are."""
    names = sorted(keys)
    return ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")


def hashes_below(folder: str, hashes: Mapping[str, str]) -> dict[str, str]:
    """Of hashes by path those of a folder's files, by their paths in it."""
    return {name.removeprefix(f"{folder}/"): value for name, value in hashes.items() if name.startswith(f"{folder}/")}
