"""The networks equal the released ones, number by number and key by key."""

import json

import numpy as np
import pytest
import torch

from tests.vidrd.released_goldens import GOLDEN, NUMBERS, RELEASED, fill, rng
from vidrd.models.unet import UNet3DConditionModel, is_temporal
from vidrd.models.vae import AutoencoderKLTemporal

FULL = json.loads((GOLDEN / "full_size_keys.json").read_text())


def draw(name, shape):
    return torch.from_numpy(rng(name).standard_normal(shape).astype(np.float32))


def error(got, key):
    want = torch.from_numpy(NUMBERS[key]).double()
    return float((got.double() - want).abs().max() / want.abs().max())


def shapes(model):
    return {key: list(value.shape) for key, value in model.state_dict().items()}


CASES = [key.split("/")[1:3] for key in NUMBERS.files if key.startswith("unet/")]


@pytest.mark.parametrize(("variant", "case"), CASES)
def test_unet_equals_the_released_one(variant, case):
    model = fill(UNet3DConditionModel(**RELEASED["unet"][variant]["config"]))
    b, f, h, w, t = RELEASED["unet_cases"][case]
    with torch.no_grad():
        out = model(draw(f"unet.{case}.sample", (b, 4, f, h, w)), t, draw(f"unet.{case}.context", (b, 7, 24)))
    assert error(out.sample, f"unet/{variant}/{case}/out") < 1e-5


@pytest.mark.parametrize("variant", RELEASED["unet"])
def test_unet_keys_are_the_released_ones(variant):
    assert (
        shapes(UNet3DConditionModel(**RELEASED["unet"][variant]["config"])) == RELEASED["unet"][variant]["state_dict"]
    )


@pytest.fixture(scope="module")
def vae():
    return fill(AutoencoderKLTemporal.from_config(RELEASED["vae"]["config"]))


def test_vae_keys_are_the_released_ones(vae):
    assert shapes(vae) == RELEASED["vae"]["state_dict"]


@pytest.mark.parametrize("num_frames", [1, 5])
def test_vae_decodes_as_the_released_one(vae, num_frames):
    with torch.no_grad():
        out = vae.decode(draw("vae.latents", (10, 4, 8, 8)), num_frames=num_frames)
    assert error(out.sample, f"vae/decode_num_frames_{num_frames}") < 1e-5


def test_vae_encodes_as_the_released_one(vae):
    with torch.no_grad():
        posterior = vae.encode(draw("vae.pixels", (3, 3, 16, 16))).latent_dist
    assert error(posterior.mean, "vae/encode_mean") < 1e-5
    assert error(posterior.logvar, "vae/encode_logvar") < 1e-5


@pytest.mark.parametrize(("name", "network"), [("unet", UNet3DConditionModel), ("vae", AutoencoderKLTemporal)])
def test_full_size_networks_carry_every_released_key(name, network):
    with torch.device("meta"):
        model = network()
    assert shapes(model) == FULL[name]["state_dict"]
    assert model.num_parameters() == FULL[name]["parameters"]
    temporal = sum(p.numel() for key, p in model.named_parameters() if is_temporal(key))
    assert temporal == FULL[name]["temporal_parameters"]
