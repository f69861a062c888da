import pytest
import torch
import torch.nn.functional as F

from bench.hardware.roofline import count
from bench.harness.suite_spec import override, plan
from bench.kernels.kernel_suite import KERNEL_SUITE
from bench.kernels.model_calls import MOST, _Names, described, flops, names_of
from bench.videos.predict import call_clip

TINY = "tiny:WanPipeline:2.1"


@pytest.fixture(scope="module")
def names():
    return names_of(TINY)


def test_the_kernels_of_a_model_do_all_its_arithmetic():
    """The oracle is PyTorch's own count of the same calls."""
    with _Names() as found:
        call_clip(TINY)
    assert sum(times * flops(name) for name, times in found.calls.items()) == count(lambda: call_clip(TINY)).flops


def test_the_largest_shapes_of_each_kind_are_taken(names):
    kinds = [name.split()[0] for name in names]
    assert set(kinds) == {"linear", "attention", "conv2d", "conv3d"}
    assert all(kinds.count(kind) <= MOST for kind in kinds)
    assert "linear 36x24x24" in names  # two branches of 18 tokens


@pytest.mark.parametrize(
    ("name", "run"),
    [
        ("linear 6x4x5", F.linear),
        ("attention 1x2x6x4:3", F.scaled_dot_product_attention),
        ("conv2d 1x4x6x6/8x2x3x3/2x1/1x0/2", lambda x, w, b: F.conv2d(x, w, b, (2, 1), (1, 0), groups=2)),
        ("conv3d 1x3x4x6x6/5x3x1x3x3/1x1x1/0x1x1/1", lambda x, w, b: F.conv3d(x, w, b, padding=(0, 1, 1))),
    ],
)
def test_a_name_gives_back_the_call_that_it_was_made_of(name, run):
    kernel = described(name)
    inputs = kernel.inputs("", torch.Generator().manual_seed(0))
    with _Names() as again:
        expected = run(*inputs)
    assert list(again.calls) == [name]
    outputs = [build("")(*inputs) for backend, build in kernel.backends.items() if backend in ("eager", "auto", "math")]
    assert all(torch.allclose(each, expected, atol=1e-5) for each in outputs)
    assert outputs
    assert count(lambda: run(*(x.to("meta") for x in inputs))).flops == flops(name)


def test_cells_are_those_of_the_models_calls(names):
    suite = override(KERNEL_SUITE, [f"model={TINY}", "device=cpu"])
    planned = plan(suite, {})
    assert list(dict.fromkeys(item.cell.values["kernel"] for item in planned)) == list(names)
    assert {item.cell.values["size"] for item in planned} == {TINY}
    linear = {item.cell.values["backend"] for item in planned if item.cell.values["kernel"].startswith("linear")}
    assert linear == {"eager", "compile"}
    assert all("model" not in item.cell.values for item in plan(override(KERNEL_SUITE, ["device=cpu"]), {}))


def test_what_is_too_much_for_a_cpu_is_skipped():
    large = KERNEL_SUITE.skip({"kernel": "linear 65520x1536x8960", "size": "", "backend": "eager", "device": "cpu"})
    assert large == "1.8 TFLOP a call: seconds or minutes on a CPU, try CUDA"


def test_names_and_models_that_are_none_are_refused():
    with pytest.raises(ValueError, match='a kernel is named as in "linear 4096x320x1280": got'):
        described("linear 3")
    with pytest.raises(ValueError, match="a kernel is named"):
        described("conv9d 1x2/1")
    with pytest.raises(ValueError, match="the kernels are those of one model"):
        override(KERNEL_SUITE, [f"model={TINY},pocket"])
    with pytest.raises(ValueError, match="variants of WanPipeline are"):
        override(KERNEL_SUITE, ["model=tiny:WanPipeline:9"])
