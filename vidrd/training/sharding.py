"""Networks divided among the processes that train them, each holding its share of every tensor, and whole again.

ZeRO's stage 3 (arXiv 1910.02054, section 5) by torch's `fully_shard`: parameters, gradients, moments and averages are
divided; a stage of the network is gathered just before it computes. What is saved is whole, so a run may go on with
another number of processes.
"""

import copy
import warnings
from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn
from torch.distributed import get_world_size
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.utils._pytree import tree_map


def divide(networks: Mapping[str, nn.Module], device: str) -> dict[str, nn.Module]:
    """Leave this process its share of each parameter, in place; all processes must hold the same networks and call.

    Args:
        networks: on a device of the kind that `device` names.
        device: "cuda" or "cpu".

    Returns:
        The networks without their parameters, which `whole` fills.
    """
    warnings.filterwarnings("ignore", "FSDP2-wrapped module .* returned a view")  # no loss changes it in place
    mesh = init_device_mesh(device, (get_world_size(),))
    return {name: _divide(network, mesh) for name, network in networks.items()}


def _divide(network: nn.Module, mesh: DeviceMesh) -> nn.Module:
    emptied = {id(p): nn.Parameter(p.detach().to("meta"), p.requires_grad) for p in network.parameters()}
    empty = copy.deepcopy(network, dict[int, Any](emptied))
    for stages in _outermost_lists(network):
        for stage in stages:
            fully_shard(stage, mesh=mesh)
    fully_shard(network, mesh=mesh)
    return empty


def whole(empty: nn.Module, parameters: Mapping[str, Tensor]) -> nn.Module:
    """A network of its own on the first process' CPU, in evaluation mode and with these divided parameters.

    All processes must call; the others get an empty one.
    """
    network = copy.deepcopy(empty)
    network.load_state_dict({**network.state_dict(), **gathered(dict(parameters))}, assign=True)
    return network.eval()


def gathered(tree: Any) -> Any:
    """The same nested values with every divided tensor whole and on the CPU of the first process.

    All processes must call; the others get tensors without content, for they would hold all of it once more each.
    """

    def gather(value: Any) -> Any:
        if not isinstance(value, DTensor):
            return value
        return value.full_tensor().to("cpu" if value.device_mesh.get_rank() == 0 else "meta")

    return tree_map(gather, tree)


def divided_as(parameter: Tensor, tree: Any) -> Any:
    """The same nested values with every tensor of the parameter's shape divided as the parameter is, if it is."""
    if not isinstance(parameter, DTensor):
        return tree

    def share(value: Any) -> Any:
        if not isinstance(value, Tensor) or value.shape != parameter.shape:
            return value
        value = value.to(parameter.device)
        return distribute_tensor(value, parameter.device_mesh, parameter.placements, src_data_rank=None)

    return tree_map(share, tree)


def _outermost_lists(network: nn.Module) -> list[nn.ModuleList]:
    """The stages of a U-Net, the layers of a text encoder."""
    lists = []
    for child in network.children():
        lists += [child] if isinstance(child, nn.ModuleList) else _outermost_lists(child)
    return lists
