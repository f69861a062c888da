"""Released files become one folder: every key is accounted for, and nothing in a file is executed."""

import json
import pickle
import shutil
from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKL
from safetensors.torch import load_file, save_file
from transformers import CLIPTextConfig, CLIPTextModel

from bench.ucf101.standins.model import SD_FOLDER, make_released
from vidrd import released
from vidrd.__main__ import Convert, convert
from vidrd.checkpoints import load_any, load_pipeline, locate, sha256
from vidrd.exact_loading import load_exactly, quiet
from vidrd.inflate import unet_settings, vae_settings
from vidrd.models.unet import UNet3DConditionModel
from vidrd.models.vae import AutoencoderKLTemporal
from vidrd.released import _bare, convert_released, read_state, split_keys

FULL = Path(__file__).parents[1] / "golden" / "vidrd" / "full_size_keys.json"


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """An SD 2.1-like folder, ModelT2V.pth and vae_finetuned/, in the released formats and small."""
    root = tmp_path_factory.mktemp("released")
    return root, make_released(root)


def run(root, out, **changes):
    asked = {"checkpoint": root / "ModelT2V.pth", "vae": root / "vae_finetuned", "size": 16} | changes
    convert(Convert(model=str(root / SD_FOLDER), out=out, **asked))


def test_the_folder_loads_and_holds_the_released_weights(files, tmp_path, capsys):
    root, networks = files
    run(root, tmp_path / "out")
    assert "left out 1 (CLIP of the released evaluator" in capsys.readouterr().out
    pipeline = load_pipeline(tmp_path / "out")
    for name, network in networks.items():
        loaded = getattr(pipeline, name).state_dict()
        assert loaded.keys() == network.state_dict().keys()
        assert all(torch.equal(loaded[key], value) for key, value in network.state_dict().items()), name
    assert pipeline.unet.config.sample_size == 8
    assert pipeline("a b", num_frames=4, num_inference_steps=2, guidance_scale=2.0).frames.shape == (1, 4, 16, 16, 3)
    assert not list((tmp_path / "out").rglob("*.bin"))


def test_the_card_accounts_for_every_key_and_pins_every_source(files, tmp_path):
    root, _ = files
    run(root, tmp_path / "out")
    card = json.loads((tmp_path / "out" / "card.json").read_text())
    held = len(read_state(root / "ModelT2V.pth")) + len(read_state(root / "vae_finetuned/diffusion_pytorch_model.bin"))
    left = sum(each["keys"] for each in card["left_out"].values())
    assert left == 2
    vae_keys = len(read_state(root / "vae_finetuned/diffusion_pytorch_model.bin"))
    assert sum(card["keys"].values()) + left + vae_keys == held
    assert card["sources"]["sha256"]["checkpoint"] == sha256(root / "ModelT2V.pth")
    assert "model/unet/config.json" in card["sources"]["sha256"]
    run(root, tmp_path / "again", pins=tmp_path / "out" / "card.json")
    pins = {"checkpoint": "0" * 64}
    (tmp_path / "pins.json").write_text(json.dumps(pins))
    with pytest.raises(ValueError, match="checkpoint must have sha256 000"):
        run(root, tmp_path / "third", pins=tmp_path / "pins.json")
    assert not (tmp_path / "third").exists()


def test_an_altered_folder_does_not_load(files, tmp_path):
    root, _ = files
    run(root, tmp_path / "out")
    with (tmp_path / "out" / "vae" / "config.json").open("a") as file:
        file.write(" ")
    with pytest.raises(ValueError, match=r"is not the file .* again \(`python -m vidrd convert`\)"):
        load_pipeline(tmp_path / "out")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.pop("unet.conv_in.weight"), "U-Net lacks conv_in.weight"),
        (lambda s: s.update({"unet.extra.bias": torch.zeros(1)}), "U-Net has unknown extra.bias"),
        (lambda s: s.update({"optimizer.x": torch.zeros(1)}), "must begin with unet.*unknown: optimizer.x"),
        (lambda s: s.update({"unet.conv_in.bias": torch.zeros(3)}), r"conv_in.bias of shape \(3,\).* asks for \(8,\)"),
    ],
)
def test_keys_that_do_not_fit_are_named(files, tmp_path, change, message):
    root, _ = files
    state = read_state(root / "ModelT2V.pth")
    change(state)
    torch.save({"state_dict": state}, tmp_path / "bad.pth")
    with pytest.raises(ValueError, match=message):
        run(root, tmp_path / "out", checkpoint=tmp_path / "bad.pth")
    assert not (tmp_path / "out").exists()


def test_without_a_fine_tuned_vae_the_checkpoints_or_the_folders_serves(files, tmp_path):
    root, _ = files
    run(root, tmp_path / "folder", vae=None)
    with quiet():
        image = AutoencoderKL.from_pretrained(root / SD_FOLDER / "vae")
    frames = torch.rand(2, 3, 16, 16)
    with torch.no_grad():
        want = image.encode(frames).latent_dist.mean
        torch.testing.assert_close(load_pipeline(tmp_path / "folder").vae.encode(frames).latent_dist.mean, want)
    state = read_state(root / "ModelT2V.pth")
    state |= {f"vae.{key}": value + 1 for key, value in image.state_dict().items()}
    torch.save({"state_dict": state}, tmp_path / "with_vae.pth")
    run(root, tmp_path / "checkpoint", vae=None, checkpoint=tmp_path / "with_vae.pth")
    bias = load_pipeline(tmp_path / "checkpoint").vae.encoder.conv_in.bias
    assert torch.equal(bias, image.encoder.conv_in.bias + 1)


@pytest.mark.parametrize("network", ["text_encoder", "unet", "vae"])
def test_image_networks_load_exactly_or_not_at_all(files, tmp_path, network):
    root, _ = files
    shutil.copytree(root / SD_FOLDER, tmp_path / "sd")
    path = next((tmp_path / "sd" / network).glob("*.safetensors"))
    state = load_file(path)
    save_file(dict(list(state.items())[:1]), path)
    for act in (
        lambda: load_any(str(tmp_path / "sd")),
        lambda: convert(Convert(str(tmp_path / "sd"), tmp_path / "out")),
    ):
        with pytest.raises(ValueError, match=f"cannot be loaded as Stable Diffusion: .*{network} lacks"):
            act()
    assert not (tmp_path / "out").exists()


def test_a_folder_of_the_other_kind_says_what_to_do(files, tmp_path):
    root, _ = files
    run(root, tmp_path / "out")
    with pytest.raises(ValueError, match="is a VidRD pipeline already: name a folder of Stable Diffusion"):
        convert(Convert(str(tmp_path / "out"), tmp_path / "again"))
    with pytest.raises(ValueError, match=r"is no VidRD pipeline: got Stable.*python -m vidrd convert"):
        load_pipeline(root / SD_FOLDER)


def test_a_web_page_is_no_checkpoint(tmp_path):
    (tmp_path / "page.pth").write_text("<!DOCTYPE html><html><body>Not found</body></html>")
    with pytest.raises(ValueError, match=r"page\.pth cannot be read as a checkpoint: .*begins with b'<!DOCTYPE"):
        read_state(tmp_path / "page.pth")


def test_a_checkpoint_that_changes_after_it_was_hashed_is_refused(files, tmp_path, monkeypatch):
    root, _ = files
    shutil.copy(root / "ModelT2V.pth", tmp_path / "m.pth")
    check = released.check_pins

    def check_and_change(hashes, pins):
        check(hashes, pins)
        state = read_state(tmp_path / "m.pth")
        torch.save({"state_dict": {key: value + 1 for key, value in state.items()}}, tmp_path / "m.pth")

    monkeypatch.setattr(released, "check_pins", check_and_change)
    with pytest.raises(ValueError, match=r"m\.pth is not the file whose hash was expected"):
        run(root, tmp_path / "out", checkpoint=tmp_path / "m.pth")
    assert not (tmp_path / "out").exists()


def test_safetensors_serve_as_a_checkpoint(files, tmp_path):
    root, _ = files
    state = {key: value.contiguous() for key, value in read_state(root / "ModelT2V.pth").items()}
    save_file(state, tmp_path / "m.safetensors")
    run(root, tmp_path / "out", checkpoint=tmp_path / "m.safetensors")
    load_pipeline(tmp_path / "out")


class Planted:
    """A pickle that would create a file."""

    def __init__(self, target):
        self.target = target

    def __reduce__(self):
        return (Path.touch, (self.target,))


@pytest.mark.parametrize("old_format", [False, True])
def test_a_pickle_with_code_is_refused_and_not_run(tmp_path, old_format):
    flag = tmp_path / "executed"
    torch.save(
        {"state_dict": {"unet.x": torch.zeros(1)}, "callbacks": Planted(flag)},
        tmp_path / "bad.pth",
        _use_new_zipfile_serialization=not old_format,
    )
    with pytest.raises(ValueError, match="is refused: it holds objects or code"):
        read_state(tmp_path / "bad.pth")
    (tmp_path / "bare.pth").write_bytes(pickle.dumps(Planted(flag)))
    with pytest.raises(ValueError, match=r"refused|cannot be read"):
        read_state(tmp_path / "bare.pth")
    assert not flag.exists()


def test_a_broken_or_strange_file_is_one_line(tmp_path):
    (tmp_path / "short.pth").write_bytes(b"PK\x03\x04 no more")
    with pytest.raises(ValueError, match="cannot be read as a checkpoint"):
        read_state(tmp_path / "short.pth")
    for other in ({"unet.x": 3}, [torch.zeros(1)], torch.zeros(1), {0: torch.zeros(1)}, {}):
        torch.save({"state_dict": other}, tmp_path / "other.pth")
        with pytest.raises(ValueError, match="holds other things"):
            read_state(tmp_path / "other.pth")
    with pytest.raises(ValueError, match="is missing"):
        read_state(tmp_path / "none.pth")


def test_the_full_size_key_list_loads_exactly_on_the_meta_device():
    full = json.loads(FULL.read_text())
    state = {}
    for key, shape in full["unet"]["state_dict"].items():
        state[f"unet.{key}"] = torch.empty(shape, device="meta")
    for key, shape in full["vae"]["state_dict"].items():
        state[f"vae.{key}"] = torch.empty(shape, device="meta")
    state["text_encoder.text_model.embeddings.position_ids"] = torch.empty(1, 77, device="meta")
    parts, left_out = split_keys(state, keep_vae=True)
    assert sum(map(len, parts.values())) + sum(each["keys"] for each in left_out.values()) == len(state)
    image = {**full["unet"]["config"], "down_block_types": ["CrossAttnDownBlock2D"] * 3 + ["DownBlock2D"]}
    with torch.device("meta"):
        unet = UNet3DConditionModel(**unet_settings(image))
        vae = AutoencoderKLTemporal(**vae_settings(full["vae"]["config"]))
    load_exactly("U-Net", unet, parts["unet"])
    load_exactly("VAE", vae, parts["vae"])
    parts["unet"].pop("mid_block.temp_convs.1.convs.15.weight")
    with pytest.raises(ValueError, match=r"lacks mid_block\.temp_convs\.1\.convs\.15\.weight"):
        load_exactly("U-Net", unet, parts["unet"])


def test_a_repository_needs_a_revision_and_is_never_fetched_unasked(tmp_path, monkeypatch):
    assert locate(str(tmp_path)) == tmp_path
    with pytest.raises(ValueError, match="needs a revision"):
        locate("someone/stable-diffusion-2-1-base")
    with pytest.raises(ValueError, match=r"at revision abc is not here .* --fetch"):
        locate("someone/stable-diffusion-2-1-base-that-is-nowhere", revision="abc")


def test_an_inflated_folder_says_what_it_was_made_of(files, tmp_path, monkeypatch):
    root, _ = files
    bare = {"checkpoint": None, "vae": None}
    run(root, tmp_path / "out", **bare)
    card = json.loads((tmp_path / "out" / "card.json").read_text())
    assert card["sources"]["named"] == {"model": str(root / SD_FOLDER), "revision": "none: a folder"}
    wanted = {f"model/{name}": sha256(root / SD_FOLDER / name) for name in ("model_index.json", "unet/config.json")}
    assert wanted.items() <= card["sources"]["sha256"].items()
    assert any("unet" in name and name.endswith(".safetensors") for name in card["sources"]["sha256"])
    assert load_pipeline(tmp_path / "out").config.clip == 8  # every file has the hash that the card names
    run(root, tmp_path / "again", pins=tmp_path / "out" / "card.json", **bare)
    (tmp_path / "pins.json").write_text(json.dumps({"model/unet/config.json": "0" * 64}))
    with pytest.raises(ValueError, match=r"model/unet/config\.json must have sha256 000"):
        run(root, tmp_path / "third", pins=tmp_path / "pins.json", **bare)
    with pytest.raises(ValueError, match="exists: name a new folder"):
        run(root, tmp_path / "out", **bare)

    def fail(*args, **options):
        raise OSError("disk full")

    monkeypatch.setattr("vidrd.pipeline.VidRDPipeline.save_pretrained", fail)
    with pytest.raises(OSError, match="disk full"):
        run(root, tmp_path / "third", **bare)
    assert not (tmp_path / "third").exists()


@pytest.mark.parametrize("prefix", ["text_encoder.", "text_encoder.text_model."])
def test_the_full_size_text_encoder_takes_its_keys(prefix):
    """Stable Diffusion 2.1's, on the meta device: keys with and without the prefix of older transformers."""
    config = CLIPTextConfig(
        vocab_size=49408, hidden_size=1024, intermediate_size=4096, num_hidden_layers=23, num_attention_heads=16,
        max_position_embeddings=77, hidden_act="gelu", projection_dim=512,
    )  # fmt: skip
    with torch.device("meta"):
        encoder = CLIPTextModel(config)
    assert sum(p.numel() for p in encoder.parameters()) == 340_387_840
    bare = {key.removeprefix("text_model."): value for key, value in encoder.state_dict().items()}
    assert len(bare) == 2 + 23 * 16 + 2
    state = {f"{prefix}{key}": value for key, value in bare.items()}
    state[f"{prefix}embeddings.position_ids"] = torch.zeros(1, 77, device="meta")
    parts, left_out = split_keys(state, keep_vae=False)
    assert [each["keys"] for each in left_out.values()] == [1]
    load_exactly("text encoder", encoder, _bare(parts["text_encoder"], encoder))
    gone = dict(parts["text_encoder"])
    name = next(key for key in gone if "layers.22." in key)
    del gone[name]
    with pytest.raises(ValueError, match=r"text encoder lacks .*layers\.22\."):
        load_exactly("text encoder", encoder, _bare(gone, encoder))


def test_what_exists_is_not_overwritten(files, tmp_path):
    root, _ = files
    (tmp_path / "out").mkdir()
    with pytest.raises(ValueError, match=r"exists: name a new folder"):
        run(root, tmp_path / "out")
    with pytest.raises(ValueError, match="belongs to a released checkpoint"):
        convert(Convert(model=str(root / SD_FOLDER), out=tmp_path / "o", vae=root / "vae_finetuned"))
    with pytest.raises(ValueError, match="the size is whole latents of 2 pixels: got 17, try 16"):
        run(root, tmp_path / "o", size=17)
    shutil.rmtree(tmp_path / "out")
    with pytest.raises(ValueError, match="lacks text_encoder/"):
        convert_released(tmp_path, root / "ModelT2V.pth", None, tmp_path / "o")
