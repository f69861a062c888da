"""One side of a gate: a process that does the same work whenever it is told to.

    python -P HEAD/bench/regression/revision_server.py    with a revision's tree as working directory and on PYTHONPATH

The work is the tree's own (its `Generator`); the clock and the counters are those of the revision
that this file belongs to, whichever tree is tested, so that a change of the clock is no change of speed. One JSON line
in, one out; whatever the libraries print goes to standard error. While it waits it uses no processor.
"""

import hashlib
import importlib
import importlib.util
import json
import os
import sys
import time
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from types import ModuleType
from typing import Any, TextIO


def tool(name: str) -> ModuleType:
    """A module of bench/hardware beside this file, not of the tree under test."""
    path = Path(__file__).parents[1] / "hardware" / f"{name}.py"
    spec = importlib.util.spec_from_file_location(f"gate_{name}", path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} cannot be loaded")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def own_modules() -> tuple[ModuleType, ModuleType]:
    """The modules of the tree under test that make videos and draw scenes: in older trees they lie elsewhere."""
    try:
        generator = importlib.import_module("bench.videos.generator")
    except ModuleNotFoundError as error:
        if error.name not in ("bench.videos", "bench.videos.generator"):
            raise
        generator, world = (importlib.import_module(name) for name in ("bench.pocket", "vidrd.data.shapes"))
    else:
        world = importlib.import_module("vidrd.pocket.world")
    return generator, world


class PreparedCell:
    """A cell, ready to be done again and again."""

    def __init__(self, values: dict[str, Any]) -> None:
        generator, world = own_modules()

        self.values = values
        self.imported = time.perf_counter()
        self.generator = generator.Generator(values)
        self.loaded = time.perf_counter()
        self.prompts = [world.caption(world.draw_scene(world.TEST_SEEDS[i])) for i in range(int(values["videos"]))]
        self.device = str(values["device"])

    def make(self, first: int = 0) -> Any:
        """One batch of videos, B T H W C."""
        batch = int(self.values["batch"])
        return self.generator.make(self.prompts[first : first + batch], first, int(self.values["steps"]))[0]

    def seconds(self) -> float:
        """Make the first batch and time it from prompts to frames, the GPU's work included."""
        self._wait()
        began = time.perf_counter()
        self.make()
        self._wait()
        return time.perf_counter() - began

    def _wait(self) -> None:
        if self.device == "cuda":
            import torch  # noqa: PLC0415

            torch.cuda.synchronize()

    def witnessed(self) -> tuple[Any, Any, dict[str, Any]]:
        """Latents and videos of the first batch, and the recipe: what the network was really asked."""
        calls: list[tuple[Any, ...]] = []
        latents = []
        pipe: Any = self.generator.pipe  # its `decode` is another for a while
        decode = pipe.decode

        def note(network: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            sample, timestep = args[0], args[1]
            calls.append((tuple(sample.shape), str(sample.dtype), tuple(timestep.flatten().tolist())))

        def keep(z: Any, **kwargs: Any) -> Any:
            latents.append(z.detach().float().cpu().numpy())
            return decode(z, **kwargs)

        hook = pipe.unet.register_forward_pre_hook(note, with_kwargs=True)
        pipe.decode = keep
        try:
            videos = self.make()
        finally:
            hook.remove()
            del pipe.decode
        # What begins with "_" is of diffusers and no part of the network: the folder that it came from, a version.
        config = {name: value for name, value in pipe.unet.config.items() if not name.startswith("_")}
        recipe = {
            "prompts": _digest("\n".join(self.prompts)),
            "calls": len(calls),
            "inputs": sorted({f"{'x'.join(map(str, shape))} {dtype}" for shape, dtype, _ in calls}),
            "timesteps": list(dict.fromkeys(timestep for *_, timestep in calls)),
            "order of calls": _digest(str(calls)),
            "network": _digest(json.dumps(config, sort_keys=True, default=str)),
            "videos": list(videos.shape),
        }
        return latents[0], videos, recipe


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12]


class RevisionServer:
    """Answers requests; a method for each."""

    def __init__(self) -> None:
        self.cell: PreparedCell | None = None
        self.breaks: dict[str, int | str] = {}
        self.card: Any = None

    def hello(self, threads: int | None) -> dict[str, Any]:
        """Take that many threads; say what this is."""
        import torch  # noqa: PLC0415

        if threads is not None:
            torch.set_num_threads(threads)
        import vidrd  # noqa: PLC0415

        return {
            "python": sys.version.split()[0],
            **{package: metadata.version(package) for package in ("torch", "diffusers", "numpy")},
            "threads": torch.get_num_threads(),
            "tree": str(Path(vidrd.__file__).parents[1]),
        }

    def open(self, values: dict[str, Any]) -> dict[str, Any]:
        """Get a cell ready and warm; what that took."""
        began = time.perf_counter()
        self.cell = PreparedCell(values)
        cell = self.cell
        warm = tool("warmup").until_flat(cell.seconds)
        if cell.device == "cuda" and self.card is None:
            self.card = _card(tool("nvml"))
        return {
            "import_seconds": cell.imported - began,
            "load_seconds": cell.loaded - cell.imported,
            "cold_seconds": warm.seconds[0],
            "warm_up_seconds": list(warm.seconds),
            "flat": warm.flat,
        }

    def run(self, pids: list[int]) -> dict[str, Any]:
        """Do it once: seconds, and why the sample must not count. `pids`: numbers of both sides' processes."""
        looks, others = [self._look()], self._others(pids)
        seconds = self._open_cell().seconds()
        looks.append(self._look())
        others |= self._others(pids)
        seen = [look for look in looks if look is not None]
        spoiled = tool("nvml").spoiled(seen) if seen else ""
        if others:
            spoiled = f"another process on the GPU: {', '.join(map(str, sorted(others)))}"
        return {"seconds": seconds, "spoiled": spoiled, "looks": seen}

    def facts(self, folder: str) -> dict[str, Any]:
        """Everything about the cell that has no noise; latents and videos go into the folder."""
        import numpy as np  # noqa: PLC0415

        cell = self._open_cell()
        latents, videos, recipe = cell.witnessed()
        np.save(Path(folder) / "latents.npy", latents)
        np.save(Path(folder) / "videos.npy", videos)
        work = tool("roofline").count(cell.make)
        counts: dict[str, float | int | str] = {
            "flops": work.flops,
            "operators": len(work.ops),
            "peak_bytes": work.peak_bytes,
            "held_bytes": work.held_bytes,
            "graph_breaks": self._graph_breaks(),
        }
        if cell.device == "cuda":
            counts |= _on_the_gpu(cell.make)
        return {"recipe": recipe, "counts": counts, "sha256": hashlib.sha256(videos.tobytes()).hexdigest()}

    def videos(self, folder: str) -> dict[str, Any]:
        """All videos of the cell, into the folder, to be judged elsewhere."""
        import numpy as np  # noqa: PLC0415

        cell = self._open_cell()
        batch = int(cell.values["batch"])
        made = np.concatenate([cell.make(first) for first in range(0, len(cell.prompts), batch)])
        np.save(Path(folder) / "all.npy", made)
        return {"videos": len(made)}

    def _open_cell(self) -> PreparedCell:
        if self.cell is None:
            raise RuntimeError("no cell is open")
        return self.cell

    def _look(self) -> Any:
        return None if self.card is None else self.card.look()

    def _others(self, pids: list[int]) -> set[int]:
        """Processes on the card that are neither side's."""
        return set() if self.card is None else set(self.card.foreign(pids, holding=len(pids)) or ())

    def _graph_breaks(self) -> int | str:
        """How often torch.compile would leave the graph of one network call; a text says why it is unknown."""
        cell = self._open_cell()
        precision = str(cell.values["precision"])
        if precision not in self.breaks:
            self.breaks[precision] = _graph_breaks(cell)
        return self.breaks[precision]


def _graph_breaks(cell: PreparedCell) -> int | str:
    import torch  # noqa: PLC0415

    asked: list[tuple[tuple[Any, ...], dict[str, Any]]] = []

    def note(network: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        asked.append((args, kwargs))

    network = cell.generator.pipe.unet
    hook = network.register_forward_pre_hook(note, with_kwargs=True)
    try:
        cell.make()
    finally:
        hook.remove()
    args, kwargs = asked[0]
    watched = network.__dict__.pop("forward", None)  # whatever the tree wraps around its network to watch it
    try:
        with torch.no_grad():
            return int(torch._dynamo.explain(network)(*args, **kwargs).graph_break_count)
    except Exception as error:  # the compiler fails in many ways, and none of them is the cell's
        return f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else 'no message'}"
    finally:
        if watched is not None:
            network.forward = watched


def _on_the_gpu(make: Callable[[], object]) -> dict[str, float | int | str]:
    """Kernels started and the allocator's peak in one run."""
    import torch  # noqa: PLC0415

    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    make()
    torch.cuda.synchronize()
    peak = torch.cuda.max_memory_allocated()
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profile:
        make()
        torch.cuda.synchronize()
    kernels = sum(event.device_type.name == "CUDA" for event in profile.events())
    return {"allocated_peak": peak, "kernels": kernels}


def _card(nvml: ModuleType) -> Any:
    """The card in use, held open as long as this process lives; None if NVML does not show it."""
    import torch  # noqa: PLC0415

    context = nvml.card(str(torch.cuda.get_device_properties(0).uuid))
    found = context.__enter__()
    return None if isinstance(found, str) else found


def serve(requests: TextIO, answers: TextIO) -> None:
    """Answer line by line until the other side closes."""
    server = RevisionServer()
    for line in requests:
        request = json.loads(line)
        try:
            answer = getattr(server, request.pop("do"))(**request)
        except Exception as error:  # the other side decides what a failure means
            import traceback  # noqa: PLC0415

            traceback.print_exc()
            text = next((text.strip() for text in str(error).splitlines() if text.strip()), "no message")
            answer = {"failed": f"{type(error).__name__}: {text}"}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


if __name__ == "__main__":
    channel = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    serve(sys.stdin, channel)
