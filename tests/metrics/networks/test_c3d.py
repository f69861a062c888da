"""C3D equals TGAN's and TGANv2's, network and input."""

import numpy as np
import pytest
import torch

from metrics.networks.c3d import C3D, build_c3d, c3d_shapes, load_c3d
from metrics.networks.features import FeatureNetwork, PreparingNetwork
from metrics.protocols import IS
from metrics.videos.preprocess import c3d_input
from tests.metrics.goldens import golden
from tests.metrics.recipes import arrays, c3d_clips, c3d_mean, sample
from tests.metrics.weight_files import c3d_weights, write_npz


@pytest.fixture(scope="module")
def weights():
    return c3d_weights(1.0)


@pytest.fixture(scope="module")
def network(weights):
    return build_c3d(weights)


def close(got, want, relative):
    assert np.abs(got - want).max() <= relative * np.abs(want).max()


@pytest.fixture(scope="module")
def activations(network):
    """fc8 and the golden's other layers in float64, of the first clip; `test_features_of_a_protocol` sees both."""
    golden("c3d_meta.json")
    wide = build_c3d({name: tensor.double() for name, tensor in network.state_dict().items()})
    outputs = {}
    for name in ("fc6", "fc7"):
        wide.get_submodule(name).register_forward_hook(lambda _, __, out, name=name: outputs.update({name: out.relu()}))
    wide.fc6.register_forward_pre_hook(lambda _, args: outputs.update({"pool5": args[0]}))
    with torch.inference_mode():
        clips = c3d_input(c3d_clips(112), IS["tgan2"], torch.from_numpy(c3d_mean()))[:1].double()
        outputs["fc8"] = wide(clips)
    return {name: tensor.numpy() for name, tensor in outputs.items()}


@pytest.mark.slow
def test_fc8_in_float64_without_a_resize(activations):
    known = arrays("c3d.npz")
    close(activations["fc8"], known["gain1/tgan2/S112/fc8/float64"][:1], 1e-12)
    probabilities = torch.from_numpy(activations["fc8"]).softmax(1).numpy()
    np.testing.assert_allclose(probabilities, known["gain1/tgan2/S112/prob/float64"][:1], rtol=1e-10)


@pytest.mark.slow
def test_layers_on_the_way(activations):
    known = arrays("c3d.npz")
    for layer in ("pool5", "fc6", "fc7"):
        close(sample(activations[layer][0], 64), known[f"gain1/tgan2/S112/clip0/{layer}_sample64"], 1e-12)


def test_features_of_a_protocol(weights, tmp_path):
    golden("c3d_meta.json")
    write_npz(tmp_path / "conv3d_deepnetA_ucf.npz", weights)
    np.savez(tmp_path / "mean2.npz", mean=c3d_mean())
    network = load_c3d(tmp_path, "tgan2", batch=1)
    assert isinstance(network, FeatureNetwork)
    assert network.name.startswith("c3d:tgan2:")
    features = network.embed(c3d_clips(112)[:1])
    close(features.logits["ucf101"], arrays("c3d.npz")["gain1/tgan2/S112/fc8/float32"][:1], 1e-4)
    with pytest.raises(ValueError, match="exactly 16 frames: got 17"):
        network.embed(np.zeros((1, 17, 112, 112, 3), np.uint8))
    with pytest.raises(ValueError, match="no Inception Score protocol 'fvd'"):
        load_c3d(tmp_path, "fvd")


def test_another_mean_is_another_network(tmp_path):
    write_npz(tmp_path / "conv3d_deepnetA_ucf.npz", c3d_weights(thin=16))
    np.savez(tmp_path / "mean2.npz", mean=c3d_mean())
    np.savez(tmp_path / "other.npz", mean=c3d_mean() + 1)
    network = load_c3d(tmp_path, "tgan2", thin=16)
    other = load_c3d(tmp_path, "tgan2", mean=tmp_path / "other.npz", thin=16)
    assert other.digest != network.digest == load_c3d(tmp_path, "tgan", thin=16).digest
    assert other.name != network.name
    assert isinstance(network, PreparingNetwork)
    rows = network.embed(c3d_clips(112)).embedding
    prepared = network.embed_prepared([network.prepare(clip) for clip in c3d_clips(112)]).embedding
    close(prepared, rows, 1e-5)
    assert np.abs(other.embed(c3d_clips(112)).embedding - rows).max() > 1e-5


@pytest.mark.slow
def test_gain_sqrt2_in_both_protocols():
    golden("c3d_meta.json")
    known, mean = arrays("c3d.npz"), torch.from_numpy(c3d_mean())
    network = build_c3d(c3d_weights())
    with torch.inference_mode():
        close(
            network(c3d_input(c3d_clips(112), IS["tgan2"], mean)).numpy(),
            known["gainsqrt2/tgan2/S112/fc8/float64"],
            1e-4,
        )
        close(
            network(c3d_input(c3d_clips(128), IS["tgan"], mean)).numpy(),
            known["gainsqrt2/tgan1/S128/fc8/float64"],
            1e-4,
        )
        bare = (c3d_clips(112).astype(np.float32) - 128) / 128 * 100
        rows = network(torch.from_numpy(bare.transpose(0, 4, 1, 2, 3).copy()))
    close(rows.numpy(), known["gainsqrt2/tgan1_net_on_100x/S112/fc8/float64"], 1e-4)


def test_pools_cover_the_remainder():
    """7 becomes 4, the last window holding one column; the padded ports would move every window."""
    with torch.device("meta"):
        assert C3D().fc6.in_features == 512 * 4 * 4
    assert c3d_shapes()["fc8.weight"] == (101, 4096)
    assert sum(np.prod(shape) for shape in c3d_shapes().values()) == 78_409_573
