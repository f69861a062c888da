"""Compiles a small U-Net and says what torch.compile did: in its own process, since tests check shapes at run time."""

import json
import sys

import torch
import torch._dynamo
from torch._dynamo.utils import counters

from vidrd.compiled_unet import BLOCKS, compiled, with_compiled_blocks
from vidrd.models import blocks
from vidrd.models.unet import UNet3DConditionModel

blocks.LARGE = 4096  # norms of the first level are left as they are, those of the second are compiled
WAYS = {"whole": compiled, "blocks": with_compiled_blocks}


def network():
    torch.manual_seed(0)
    unet = UNet3DConditionModel(
        block_out_channels=(16, 16), down_block_types=("CrossAttnDownBlock3D", "DownBlock3D"), layers_per_block=1,
        attention_head_dim=2, cross_attention_dim=16, norm_num_groups=4,
    ).eval()  # fmt: skip
    for parameter in unet.parameters():
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.05)
    return unet


def asked(timestep, batch=2):
    generator = torch.Generator().manual_seed(timestep)
    latents = torch.randn(batch, 4, 4, 8, 8, generator=generator)
    return latents, torch.tensor(timestep), torch.randn(batch, 5, 16, generator=generator)


@torch.no_grad()
def account(way, backend):
    """Largest errors of three steps and of one with given deep features, and the graphs after each call."""
    torch._dynamo.reset()
    counters.clear()
    unet = network()
    fast = WAYS[way](unet, backend=backend)
    errors, graphs = [], []
    for timestep in (900, 500, 20):
        want, got = unet(*asked(timestep)), fast(*asked(timestep))
        errors.append(float((got.sample - want.sample).abs().max() / want.sample.abs().max()))
        graphs.append(counters["stats"]["unique_graphs"])
    want, got = (f(*asked(300), deep=want.deep) for f in (unet, fast))
    errors.append(float((got.sample - want.sample).abs().max() / want.sample.abs().max()))
    return {
        "errors": errors,
        "graphs": graphs,
        "breaks": sum(counters["graph_break"].values()),
        "blocks": sum(isinstance(module, BLOCKS) for module in unet.modules()),
        "left": sum(module._compiled_call_impl is not None for module in unet.modules()),
    }


if __name__ == "__main__":
    torch.set_num_threads(1)
    print(json.dumps(account(*sys.argv[1:])))
