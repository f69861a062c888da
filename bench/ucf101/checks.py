"""What can be known of a UCF-101 run before anything is made or written."""

import importlib.util
import json
from collections.abc import Sequence
from pathlib import Path

from baselines.model_contract import Model
from baselines.models.families import VIDRD, outline, pipeline_of
from bench.harness.suite_spec import did_you_mean
from bench.methods import METHODS, unsuited
from bench.ucf101.plan import Plan
from bench.ucf101.pool import WorkerPool
from bench.ucf101.run import share
from bench.ucf101.score import recipe_of, scoring_networks
from metrics.evaluation.dataset import ReadOptions, check_count
from vidrd.checkpoints import PRESETS
from vidrd.schedule import Schedule

STANDIN_CELL, STANDIN_STEPS = 2, 1000  # pixels of a latent, levels: of the model that --standin makes


def check_before(
    plan: Plan, methods: Sequence[str], pool: WorkerPool, shard: str | None, model: str | None, *, allow_small: bool
) -> None:
    """Hold a run's settings to each other and to its model.

    Args:
        plan: what is to be made; the hash of its model does not matter.
        methods: the samplers; none where videos are given.
        pool: who is to do it.
        shard: "I/N", or None for all.
        model: a preset or a folder; None where it is given no videos to make, or a stand-in.
        allow_small: sets may be too small for their scores.

    Raises:
        ValueError: a setting that cannot be; the message names its option.
    """
    share(shard, plan.blocks)
    if pool.ray and importlib.util.find_spec("ray") is None:
        raise ValueError("--ray needs Ray Data: pip install 'vidrd-bench[ray]'")
    for method in methods:
        if method not in METHODS:
            raise ValueError(f"there is no method {method!r}{did_you_mean(method, list(METHODS))}")
        plan.fe(method)
    if methods:
        _check_network(plan, methods, model)
    count = len(plan.items)
    setting = ReadOptions(seed=plan.settings.seed, allow_small=allow_small)
    for judge in scoring_networks(plan.settings, None, plan.batch):
        recipe = recipe_of(judge, plan.settings)
        if methods and not shard:
            check_count(count, None, "generated", recipe, setting)
        if methods and judge.metric == "fvd" and count < 2:
            raise ValueError(f"{judge.name} compares sets of videos: got {count}, try --limit {plan.batch}")


def _check_network(plan: Plan, methods: Sequence[str], model: str | None) -> None:
    if model is not None and model not in PRESETS and pipeline_of(Path(model)) != VIDRD:
        _check_family(plan, methods, outline(model))
        return
    cell, levels = STANDIN_CELL, STANDIN_STEPS
    if model is not None:
        folder = PRESETS[model].folder if model in PRESETS else Path(model)
        try:
            vae = json.loads((folder / "vae" / "config.json").read_text(encoding="utf-8"))
            scheduler = json.loads((folder / "scheduler" / "scheduler_config.json").read_text(encoding="utf-8"))
            cell, levels = 2 ** (len(vae["block_out_channels"]) - 1), int(scheduler["num_train_timesteps"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ValueError(f"--model {model} is no whole VidRD pipeline ({error})") from None
        if plan.settings.steps <= levels:
            Schedule.ddim(scheduler, plan.settings.steps)
    if plan.settings.size % cell:
        near = max(cell, plan.settings.size - plan.settings.size % cell)
        raise ValueError(f"--size is a multiple of {cell} pixels for this model: got {plan.settings.size}, try {near}")
    if plan.settings.steps > levels:
        raise ValueError(f"--steps are at most the {levels} of this model's training: got {plan.settings.steps}")


def _check_family(plan: Plan, methods: Sequence[str], model: Model) -> None:
    """Hold the settings to a model of another family than VidRD."""
    if plan.compiled:
        raise ValueError("--compile is for VidRD's pipelines: leave it out")
    shape = model.latent_shape(plan.settings.size, plan.settings.size)
    model.schedule(plan.settings.steps, model.solver, (plan.clip, *shape[1:]))
    for method in methods:
        if (reason := unsuited(METHODS[method], model, longer=plan.frames > plan.clip)) is not None:
            raise ValueError(f"--method {method}: {reason}")
