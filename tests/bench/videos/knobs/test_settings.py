"""The knobs of a sweep: which are exact, what each needs, and that cells without them stay as they were."""

import pytest

from bench.harness.suite_spec import override, plan
from bench.videos.knobs.losses import FIRED, LOSSES
from bench.videos.knobs.settings import KNOBS, approximations, check, is_exact, plain, turned
from bench.videos.length_suite import LENGTHS

TINY = ("precision=fp32", "device=cpu", "videos=3", "steps=4", "frames=17", "method=independent")


def planned(*assignments, model="tiny:WanPipeline:2.1-euler"):
    named = {word.partition("=")[0] for word in assignments}
    few = [word for word in TINY if word.partition("=")[0] not in named]
    return plan(override(LENGTHS, [f"model={model}", *few, *assignments]), {})


def reason(*assignments, **more):
    return planned(*assignments, **more)[-1].skip


def test_a_sweep_that_names_no_knob_has_the_cells_it_had():
    (item,) = planned()
    assert not KNOBS.keys() & item.cell.values.keys()
    assert set(item.cell.values) == {*LENGTHS.axes, *LENGTHS.fixed, "inputs"}
    assert not {*LOSSES, *FIRED} & LENGTHS.measures.keys()


def test_a_knob_is_an_axis_whose_cells_are_compared_with_the_plain_one():
    items = planned("cache=first-block:0.2")
    assert [item.cell.values["cache"] for item in items] == ["none", "first-block:0.2"]
    assert [item.reference for item in items] == [True, False]
    both = override(LENGTHS, ["cache=none,pab", "compile=no,blocks"])
    assert {*LOSSES, *FIRED} <= both.measures.keys()
    assert plain({"cache": "pab", "compile": "blocks", "steps": 4}) == {"cache": "none", "compile": "no", "steps": 4}
    assert plain({"cache": "none"}) is None


def test_exact_and_approximate():
    values = {"attention": "sage", "compile": "whole", "cache": "mag:0.1", "vae": "tiling:64", "layout": "own"}
    assert approximations(values) == ["attention=sage", "cache=mag:0.1", "vae=tiling:64"]
    assert turned(values).keys() == {"attention", "compile", "cache", "vae"}
    assert is_exact("attention", "_native_math")
    assert not is_exact("solver", "unipc")
    assert all(is_exact(name, knob.neutral) for name, knob in KNOBS.items())


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"cache": "teacache"}, "cache is one of none, first-block:NUMBER, .*: got 'teacache'"),
        ({"cache": "first-block:0"}, "the number of a setting is above 0: got 'first-block:0'"),
        ({"cache": "pab:nan"}, "above 0"),
        ({"compile": "blocks:2"}, "compile is one of no, blocks, whole: got 'blocks:2'"),
        ({"attention": "flash_hub"}, "attention is one of own, native"),
    ],
)
def test_other_values_are_refused(values, message):
    with pytest.raises(ValueError, match=message):
        check(values)


@pytest.mark.parametrize(
    ("assignment", "model", "why"),
    [
        ("offload=model", "tiny:WanPipeline", "between a GPU and main memory: this cell runs on a CPU"),
        ("attention=_native_cudnn", "tiny:WanPipeline", "runs on a GPU"),
        ("attention=flash", "tiny:WanPipeline", "needs the package flash_attn"),
        ("attention=native", "tiny:CogVideoXPipeline", "takes no backend of diffusers"),
        ("compile=blocks", "tiny:CogVideoXPipeline", "names no blocks that repeat: use compile=whole"),
        ("cache=first-block", "pocket", "offers no step cache of diffusers"),
        ("cache=mag", "tiny:SkyReelsV2DiffusionForcingPipeline", "does not know the blocks of SkyReels"),
        ("cache=pab", "tiny:SkyReelsV2DiffusionForcingPipeline", "one for each branch of guidance"),
        ("cache=faster", "tiny:LTXPipeline", "takes frames: LTXVideoTransformer3DModel gets tokens"),
        ("vae=slicing", "tiny:WanPipeline", "which this harness does anyway"),
        ("vae=tiling", "tiny:WanPipeline", "32 x 48 pixels fits into one tile of 256"),
        ("vae=tiling:16", "tiny:AnimateDiffPipeline", "have one size: use vae=tiling"),
    ],
)
def test_what_a_model_or_a_machine_cannot_do_is_a_row_with_its_reason(assignment, model, why):
    frames = {"tiny:CogVideoXPipeline": "frames=33", "tiny:AnimateDiffPipeline": "frames=16"}.get(model, "frames=17")
    assert why in reason(assignment, frames, model=model)


def test_a_method_that_moves_its_windows_has_no_step_cache():
    assert "the calls of diffvf have others" in reason("cache=taylorseer", "method=diffvf", "overlap=4")
    assert "the calls of fifo have others" in reason("cache=taylorseer", "method=fifo")
    assert "codenoise makes one for each window" in reason("cache=pab", "method=codenoise", "overlap=4")
    assert reason("cache=first-block", "method=codenoise", "overlap=4") is None
    assert "not in proportion to its steps" in reason("cache=first-block", "equal=seconds")
    assert "takes in no order" in reason("solver=unipc", "method=fifo")
    assert reason("solver=unipc") is None
