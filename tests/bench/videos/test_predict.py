"""A dry run predicts the work of models of any family, without weights and without computing."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from baselines.models.families import FAMILIES, tiny_model
from bench.harness.suite_spec import override, plan
from bench.videos.generator import Generator
from bench.videos.length_suite import LENGTHS, PROMPTS
from bench.videos.predict import predict


def cell(*assignments):
    few = {"method": "independent", "precision": "fp32", "videos": "3", "device": "cpu", "steps": "2"}
    few |= dict(word.split("=") for word in assignments)
    (item,) = plan(override(LENGTHS, [f"{name}={value}" for name, value in few.items()]), {})
    assert item.skip is None
    return item.cell.values


DEFAULT = ("tiny:WanPipeline:2.2-A14B", "tiny:LTXPipeline", "tiny:HunyuanVideoPipeline")
OTHERS = [f"tiny:{name}" for name in FAMILIES if f"tiny:{name}" not in DEFAULT]


@pytest.mark.parametrize("name", [*DEFAULT, *(pytest.param(name, marks=pytest.mark.slow) for name in OTHERS)])
def test_the_predicted_work_is_what_is_done(name):
    model = tiny_model(name)
    values = cell(f"model={name}", f"frames={model.rule.frames(model.clip)}")
    generator = Generator(values)
    text = generator.model.branches(generator.guidance) * _flops(lambda: generator.model.text([PROMPTS[0]]))
    made = _flops(lambda: generator.make([PROMPTS[0]], 0, 2))
    assert predict(values).flops == 3 * (made - text)


@pytest.mark.slow
def test_levels_of_single_frames_are_counted():
    queue = cell("model=tiny:WanPipeline:2.1", "frames=17", "method=forcing")
    generator = Generator(queue)
    made = _flops(lambda: generator.make([PROMPTS[0]], 0, 2))
    text = 2 * _flops(lambda: generator.model.text([PROMPTS[0]]))
    assert predict(queue).flops == pytest.approx(3 * (made - text), rel=0.02)  # calls of other lengths, by their mean


def test_branches_and_precision_are_counted():
    values = cell("model=tiny:WanPipeline:2.1", "frames=9", "method=direct")
    alone, both = predict({**values, "guidance": 1.0}), predict(values)
    assert both.flops > alone.flops
    assert predict({**values, "precision": "bf16"}).peak_bytes < 0.7 * both.peak_bytes


def test_float32_is_no_tf32_on_a_gpu(monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)  # PyTorch's default
    Generator(cell("model=tiny:WanPipeline:2.1", "frames=9"))
    assert not torch.backends.cudnn.allow_tf32


def test_a_model_that_does_not_say_its_text_is_not_predicted(monkeypatch):
    values = cell("model=tiny:WanPipeline:2.1", "frames=9")
    monkeypatch.setattr("baselines.models.wan.Wan.text_shapes", lambda self: {})
    assert predict(values) is None


def _flops(work):
    with FlopCounterMode(display=False) as counter:
        work()
    return counter.get_total_flops()
