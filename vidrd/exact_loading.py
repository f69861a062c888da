"""Networks from folders: every tensor is loaded, or none; no library asks a hub for anything."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from diffusers.utils import logging as diffusers_log
from huggingface_hub import constants, snapshot_download
from transformers.utils import logging as transformers_log

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


def fetched(name: str) -> Path:
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


def load_network(kind: Any, folder: Path, **options: Any) -> Any:
    """A network of transformers or diffusers from its folder, exactly as its class and configuration say.

    Args:
        kind: its class, with a `from_pretrained` that can report what it loaded.
        folder: of the configuration and the weights.
        options: of `from_pretrained`.

    Raises:
        ValueError: the files lack tensors, hold others, or have them in other shapes; the message names the first ones.
    """
    with quiet():
        network, report = kind.from_pretrained(
            str(folder), local_files_only=True, output_loading_info=True, ignore_mismatched_sizes=False, **options
        )
    for fault, name in (("lacks", "missing_keys"), ("has unknown", "unexpected_keys"), ("misfits", "mismatched_keys")):
        keys = [key if isinstance(key, str) else key[0] for key in report.get(name, ())]
        keys = sorted(key for key in keys if not key.endswith(CONSTANTS))
        if keys:
            more = f" and {len(keys) - 3} more" if len(keys) > 3 else ""
            raise ValueError(
                f"{folder} must hold the network that its configuration describes: it {fault} {', '.join(keys[:3])}"
                f"{more}; restore it"
            )
    return network
