"""One side of a gate: a process that repeats the same work on request.

    python -P HEAD/bench/regression/revision_server.py    with a revision's tree as working directory and on PYTHONPATH

The work is the tree's own (its `Generator`); the clock and the counters are those of the revision that this file
belongs to, whichever tree is tested, so that a change of the clock does not look like a change of speed. Each request
is a JSON line, and so is each answer; whatever the libraries print goes to standard error. While it waits it uses no
processor.
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
    """A module of the bench/hardware that belongs to this file, not of the one in the tree under test."""
    path = Path(__file__).parents[1] / "hardware" / f"{name}.py"
    spec = importlib.util.spec_from_file_location(f"gate_{name}", path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} cannot be loaded")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def own_modules() -> tuple[ModuleType, ModuleType]:
    """The modules of the tree under test that make videos and draw scenes: in older trees they are elsewhere.

    The tree's files decide and not what can be imported, for an editable installation of another revision, as in a
    shared environment, offers the modules that the tree lacks.
    """
    import vidrd  # noqa: PLC0415

    if (Path(vidrd.__file__).parents[1] / "bench" / "videos" / "generator.py").is_file():
        names = ("bench.videos.generator", "vidrd.pocket.world")
    else:
        names = ("bench.pocket", "vidrd.data.shapes")
    generator, world = map(importlib.import_module, names)
    return generator, world


class PreparedCell:
    """A cell whose pipeline is loaded, so that its work can be repeated."""

    def __init__(self, values: dict[str, Any]) -> None:
        generator, world = own_modules()
        count = int(values["videos"])

        self.values = values
        self.imported = time.perf_counter()
        self.generator = generator.Generator(values)
        self.loaded = time.perf_counter()
        if "prompts" in values:  # of any model
            self.prompts = importlib.import_module("bench.videos.length_suite").prompts_of(values)
        else:
            self.prompts = [world.caption(world.draw_scene(world.TEST_SEEDS[i])) for i in range(count)]
        self.device = str(values["device"])
        self.without_core = tool("threads").seconds_without_core

    def make(self, first: int = 0) -> Any:
        """One batch of videos, B T H W C, 8 bits; `first` is the number of its first prompt."""
        batch = int(self.values["batch"])
        return self.generator.make(self.prompts[first : first + batch], first, int(self.values["steps"]))[0]

    def seconds(self) -> tuple[float, float]:
        """Make the first batch; its seconds from prompts to frames, the GPU's work included, in two parts.

        Returns:
            the work's own seconds, and those in which it waited for a core that other work had.
        """
        self._wait()
        began, waited = time.perf_counter(), self.without_core()
        self.make()
        self._wait()
        waited, seconds = self.without_core() - waited, time.perf_counter() - began  # no wait outside of the seconds
        return max(seconds - waited, 0.0), min(waited, seconds)

    def _wait(self) -> None:
        if self.device == "cuda":
            import torch  # noqa: PLC0415

            torch.cuda.synchronize()

    @property
    def model(self) -> Any:
        """What decodes: the pipeline itself in trees that know no other models."""
        return getattr(self.generator, "model", self.generator.pipe)

    @property
    def networks(self) -> list[Any]:
        """The networks that denoise."""
        pipe = self.generator.pipe
        return [getattr(pipe, name) for name in getattr(self.model, "denoisers", ("unet",))]

    def witnessed(self, first: int = 0) -> tuple[Any, Any, dict[str, Any]]:
        """Latents and videos of a batch, and its recipe: the calls that the network really received."""
        calls: list[tuple[Any, ...]] = []
        latents = []
        model: Any = self.model  # its `decode` is another for a while
        decode = model.decode

        def note(network: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            sample = args[0] if args else kwargs["hidden_states"]
            timestep = args[1] if len(args) > 1 else kwargs["timestep"]
            calls.append((tuple(sample.shape), str(sample.dtype), tuple(timestep.flatten().tolist())))

        def keep(z: Any, **kwargs: Any) -> Any:
            latents.append(z.detach().float().cpu().numpy())
            return decode(z, **kwargs)

        hooks = [network.register_forward_pre_hook(note, with_kwargs=True) for network in self.networks]
        model.decode = keep
        try:
            videos = self.make(first)
        finally:
            for hook in hooks:
                hook.remove()
            del model.decode
        # What begins with "_" is of diffusers and no part of the network: the folder that it came from, a version.
        configs = [
            {name: value for name, value in network.config.items() if not name.startswith("_")}
            for network in self.networks
        ]
        recipe = {
            "prompts": _digest("\n".join(self.prompts)),
            "calls": len(calls),
            "inputs": sorted({f"{'x'.join(map(str, shape))} {dtype}" for shape, dtype, _ in calls}),
            "timesteps": list(dict.fromkeys(timestep for *_, timestep in calls)),
            "order of calls": _digest(str(calls)),
            "network": _digest(json.dumps(configs if configs[1:] else configs[0], sort_keys=True, default=str)),
            "videos": list(videos.shape),
        }
        return latents[0], videos, recipe


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12]


class RevisionServer:
    """Answers requests; each public method is one kind of request, and returns the answer."""

    def __init__(self) -> None:
        self.cell: PreparedCell | None = None
        self.breaks: dict[str, int | str] = {}
        self.card: Any = None

    def hello(self, threads: int | None) -> dict[str, Any]:
        """Use that many threads; versions of Python and packages, and the tree that is under test."""
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
        """Load a cell and warm it up; seconds of each step of that."""
        began = time.perf_counter()
        self.cell = PreparedCell(values)
        cell = self.cell
        warm = tool("warmup").until_flat(lambda: cell.seconds()[0])
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
        """Do the work once: seconds, those of waiting for a core, and why the sample does not count.

        Args:
            pids: numbers of both sides' processes.
        """
        looks, others = [self._look()], self._others(pids)
        seconds, waited = self._open_cell().seconds()
        looks.append(self._look())
        others |= self._others(pids)
        snapshots = [look for look in looks if look is not None]
        spoiled = tool("nvml").spoiled(snapshots) if snapshots else ""
        if others:
            spoiled = f"another process on the GPU: {', '.join(map(str, sorted(others)))}"
        return {"seconds": seconds, "waited": waited, "spoiled": spoiled, "looks": snapshots}

    def facts(self, folder: str) -> dict[str, Any]:
        """Everything about the cell that has no noise; the hash is of the first batch's videos.

        Latents and videos of the first and the last batch go into the folder.
        """
        import numpy as np  # noqa: PLC0415

        cell = self._open_cell()
        latents, videos, recipe = cell.witnessed()
        sha256 = hashlib.sha256(videos.tobytes()).hexdigest()
        if (last := len(cell.prompts) - len(videos)) > 0:  # in which the noise of a wrong seed shows
            others = cell.witnessed(last)
            latents, videos = np.concatenate([latents, others[0]]), np.concatenate([videos, others[1]])
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
        return {"recipe": recipe, "counts": counts, "sha256": sha256}

    def videos(self, folder: str) -> dict[str, Any]:
        """Make all videos of the cell and write them into the folder; how many there are."""
        import numpy as np  # noqa: PLC0415

        cell = self._open_cell()
        batch = int(cell.values["batch"])
        videos = np.concatenate([cell.make(first) for first in range(0, len(cell.prompts), batch)])
        np.save(Path(folder) / "all.npy", videos)
        return {"videos": len(videos)}

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

    calls: list[tuple[tuple[Any, ...], dict[str, Any]]] = []

    def note(network: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        calls.append((args, kwargs))

    network = cell.networks[0]
    hook = network.register_forward_pre_hook(note, with_kwargs=True)
    try:
        cell.make()
    finally:
        hook.remove()
    args, kwargs = calls[0]
    wrapped = network.__dict__.pop("forward", None)  # the tree's own recorder of calls, if it has one
    try:
        with torch.no_grad():
            return int(torch._dynamo.explain(network)(*args, **kwargs).graph_break_count)
    except Exception as error:  # the compiler fails in many ways, and none of them is the cell's
        return f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else 'no message'}"
    finally:
        if wrapped is not None:
            network.forward = wrapped


def _on_the_gpu(make: Callable[[], object]) -> dict[str, float | int | str]:
    """Kernels that one run starts, and the most bytes that the allocator gives out in it."""
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
    """The card in use, kept open as long as this process lives; None if NVML does not show it."""
    import torch  # noqa: PLC0415

    context = nvml.card(str(torch.cuda.get_device_properties(0).uuid))
    gpu = context.__enter__()
    return None if isinstance(gpu, str) else gpu


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
