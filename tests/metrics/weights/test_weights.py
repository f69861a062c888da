"""Weights from every format, and what a file that must not be used says."""

import io
import pickle
import struct
import zipfile

import google_crc32c
import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from bench.ucf101.standins.weight_files import mask
from metrics.networks.c3d import c3d_shapes, read_mean
from metrics.networks.i3d import i3d_shapes
from metrics.weights import WeightsError, export, load
from metrics.weights.load import digest
from metrics.weights.published import CHECKSUMS, hashes, identify
from metrics.weights.tensor_names import I3D_HASSONY2, I3D_TENSORFLOW, recognize
from metrics.weights.tf_checkpoint import unmask
from tests.metrics.goldens import golden
from tests.metrics.weight_files import (
    block_of,
    forged,
    i3d_weights,
    state_dict,
    table,
    write_checkpoint,
    write_npz,
    write_program,
    zip_with,
)

I3D = {"i3d": i3d_shapes()}
C3D = {"c3d": c3d_shapes()}


@pytest.fixture(scope="module")
def weights():
    return i3d_weights()


@pytest.fixture(scope="module")
def scaled(weights):
    """The same with norms that have no scale, as in TensorFlow."""
    return {name: torch.ones_like(t) if name.endswith("bn.weight") else t for name, t in weights.items()}


@pytest.fixture
def small(monkeypatch, weights):
    """Two tensors instead of 287, where only the container matters."""
    names = ("Conv3d_1a_7x7.bn.bias", "Conv3d_2b_1x1.conv3d.weight")
    for table_ in (I3D_HASSONY2, I3D_TENSORFLOW):
        for name in table_.keys() - set(names):
            monkeypatch.delitem(table_, name)
    monkeypatch.setattr(
        "metrics.weights.tensor_names.NAMES", {"i3d": {"V": {n: n for n in names}, "T": I3D_TENSORFLOW}}
    )
    return {name: weights[name] for name in names}, {"i3d": {name: tuple(weights[name].shape) for name in names}}


def same(loaded, tensors) -> None:
    assert loaded.tensors.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert torch.equal(loaded.tensors[name], tensor), name
    assert loaded.digest == digest(tensors)


# Checksums


def test_checksums_are_castagnoli_s_and_masks_are_undone():
    assert google_crc32c.value(b"123456789") == 0xE3069283  # RFC 3720, B.4
    for checksum in (0, 1, 0x8A9136AA, 0xFFFFFFFF):
        assert unmask(mask(checksum)) == checksum


def test_the_table_is_the_published_one():
    files = golden("i3d_tf_tensor_crc32c.json")["files"]
    for which, file in files.items():
        tensors = file["tensors"]
        assert CHECKSUMS[which] == {entry["torch_key"]: entry["crc32c"] for entry in tensors.values()}
        assert dict(I3D_TENSORFLOW) == {entry["torch_key"]: name for name, entry in tensors.items()}
        shapes = i3d_shapes()
        for entry in tensors.values():
            shape = entry["shape"]
            laid = [shape[axis] for axis in (4, 3, 0, 1, 2)] if len(shape) == 5 else shape
            assert laid == list(shapes[entry["torch_key"]])


def test_checksums_tell_the_checkpoints_apart():
    shapes = i3d_shapes()

    def checkpoint(which, part=""):
        """Other values with the published checksums: a checksum detects accidents, not forgers."""
        tensors = {name: torch.ones(shape) for name, shape in shapes.items() if part in name}
        for name, checksum in CHECKSUMS[which].items():
            if part not in name:
                continue
            shape = shapes[name]
            laid = tuple(shape[axis] for axis in (2, 3, 4, 1, 0)) if len(shape) == 5 else shape
            array = torch.from_numpy(forged(name, laid, int(checksum, 16)))
            tensors[name] = array.permute(4, 3, 0, 1, 2).contiguous() if len(shape) == 5 else array
        return tensors

    scratch = checkpoint("rgb_scratch")
    assert identify(scratch).whole
    assert identify(scratch).name == "rgb_scratch"
    damaged = {**scratch, "Mixed_4c.b1b.bn.bias": scratch["Mixed_4c.b1b.bn.bias"] + 1e-6}
    assert identify(damaged).name == "damaged"
    assert [n for n, v in identify(damaged).tensors.items() if v == "wrong"] == ["Mixed_4c.b1b.bn.bias"]
    scaled = {**scratch, "Mixed_4c.b1b.bn.weight": 2 * scratch["Mixed_4c.b1b.bn.weight"]}
    assert [n for n, v in identify(scaled).tensors.items() if v == "wrong"] == ["Mixed_4c.b1b.bn.weight"]
    imagenet = {**scratch, **checkpoint("rgb_imagenet", "bn")}
    assert identify(imagenet).checkpoint in CHECKSUMS
    assert identify(i3d_weights()).name == "unrecognised"


def test_hashes_are_sha256_and_git_s(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"hello\n")
    assert hashes(path) == (
        "5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03",
        "ce013625030ba8dba906f756967f9e9ca394464a",
    )


# Every format gives the tensors back


def test_state_dicts_of_torch(tmp_path, weights):
    new, old = tmp_path / "new.pt", tmp_path / "old.pt"
    torch.save(state_dict(weights), new)
    torch.save(dict(weights), old, _use_new_zipfile_serialization=False)
    for path in (new, old):
        loaded = load(path, I3D)
        assert (loaded.format, loaded.names, loaded.network) == ("torch", "VideoGPT", "i3d")
        same(loaded, weights)


def test_a_wrapped_network_s_prefix_is_seen_through(tmp_path, weights):
    path = tmp_path / "wrapped.pth"
    torch.save({"state_dict": {f"module.{I3D_HASSONY2[name]}": tensor for name, tensor in weights.items()}}, path)
    loaded = load(path, I3D)
    assert loaded.names == "hassony2"
    same(loaded, weights)


def test_programs_are_read_and_not_run(tmp_path, weights):
    loaded = load(write_program(tmp_path / "i3d_torchscript.pt", weights), I3D)
    assert (loaded.format, loaded.names) == ("torchscript", "hassony2")
    same(loaded, weights)


@pytest.mark.parametrize("variant", [{}, {"hub": True}, {"shards": 2}, {"extra": True}])
def test_checkpoints_of_tensorflow(tmp_path, scaled, variant):
    index = write_checkpoint(tmp_path / "model.ckpt", scaled, **variant)
    loaded = load(index, I3D)
    assert (loaded.format, loaded.names) == ("tensorflow", "TensorFlow")
    assert loaded.extra == (("global_step",) if variant.get("extra") else ())
    same(loaded, scaled)


def test_a_checkpoint_may_be_named_in_every_usual_way(tmp_path, small):
    tensors, wanted = small
    folder = tmp_path / "variables"
    folder.mkdir()
    index = write_checkpoint(folder / "variables", tensors)
    ways = (index, folder / "variables", folder / "variables.data-00000-of-00001", folder, tmp_path)
    assert len({load(way, wanted).digest for way in ways}) == 1


def test_safetensors_and_the_export(tmp_path, weights):
    path, again = tmp_path / "i3d.safetensors", tmp_path / "again.safetensors"
    save_file(weights, path)
    loaded = load(path, I3D)
    same(loaded, weights)
    export(loaded, again)
    same(load(again, I3D), weights)
    same(load(tmp_path, I3D), weights)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["again.safetensors", "i3d.safetensors"]


@pytest.mark.parametrize("compressed", [False, True])
def test_arrays_of_chainer(tmp_path, monkeypatch, compressed):
    shapes = {name: tuple(1 + side % 7 for side in shape) for name, shape in c3d_shapes().items()}
    random = np.random.default_rng(0)
    tensors = {name: torch.from_numpy(random.random(shape, np.float32)) for name, shape in shapes.items()}
    loaded = load(write_npz(tmp_path / "conv3d_deepnetA_ucf.npz", tensors, compressed=compressed), {"c3d": shapes})
    assert (loaded.network, loaded.format, loaded.names) == ("c3d", "npz", "chainer")
    same(loaded, tensors)


def test_equal_weights_have_equal_digests_whatever_the_file(tmp_path, scaled):
    torch.save(state_dict(scaled), tmp_path / "a.pt")
    index = write_checkpoint(tmp_path / "b", scaled)
    assert load(tmp_path / "a.pt", I3D).digest == load(index, I3D).digest


# What must not be used


def refuses(path, match, wanted=None):
    with pytest.raises(WeightsError, match=match) as caught:
        load(path, wanted or I3D)
    assert "\n" not in str(caught.value)
    assert str(path.parent) in str(caught.value)


def test_missing_empty_and_foreign_files(tmp_path):
    refuses(tmp_path / "none.pt", "there is no such file")
    refuses(tmp_path, "the folder has none of i3d.safetensors")
    contents = {
        "empty.pt": (b"", "it is empty; copy or download it again"),
        "page.pt": (b"<!DOCTYPE html><html>quota", "it is a web page"),
        "pointer.pt": (b"version https://git-lfs.github.com/spec/v1\n", "pointer of Git LFS"),
        "noise.pt": (b"\x13\x37 nothing known", "no format of weights does"),
        "pickle.pt": (pickle.dumps({"a": 1}), "it is a bare pickle, which could run anything"),
    }
    for name, (content, match) in contents.items():
        (tmp_path / name).write_bytes(content)
        refuses(tmp_path / name, match)
    refuses(zip_with(tmp_path / "zip.pt", {"readme.txt": b"hi"}), "a zip archive of other things")


def test_names_that_do_not_fit_the_content(tmp_path, small):
    tensors, wanted = small
    save_file(tensors, tmp_path / "a.pt")
    torch.save(tensors, tmp_path / "b.safetensors")
    torch.save(tensors, tmp_path / "c.npz")
    refuses(tmp_path / "a.pt", "its name says .pt, its content is safetensors", wanted)
    refuses(tmp_path / "b.safetensors", "its name says .safetensors, its content is torch", wanted)
    refuses(tmp_path / "c.npz", "its name says .npz, its content is torch", wanted)
    save_file(tensors, tmp_path / "no-suffix")
    assert load(tmp_path / "no-suffix", wanted).network == "i3d"


@pytest.mark.parametrize("kind", ["zip.pt", "old.pt", "t.safetensors", "t.npz", "program.pt"])
@pytest.mark.parametrize("share", [0.5, 0.999])
def test_truncated_files(tmp_path, small, kind, share):
    tensors, wanted = small
    path = tmp_path / kind
    match kind:
        case "zip.pt":
            torch.save(tensors, path)
        case "old.pt":
            torch.save(tensors, path, _use_new_zipfile_serialization=False)
        case "t.safetensors":
            save_file(tensors, path)
        case "t.npz":
            np.savez(path, **{"conv1a/W": np.ones((64, 3, 3, 3, 3), np.float32)})
        case "program.pt":
            write_program(path, tensors)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    refuses(path, "cannot be used as weights", {**wanted, **C3D})


@pytest.mark.parametrize("zipped", [False, True])
@pytest.mark.parametrize("content", [[torch.ones(2)], torch.ones(2), 3, None, {0: torch.ones(2)}, {"a": {}}])
def test_archives_of_something_else_than_tensors_by_their_names(tmp_path, content, zipped):
    torch.save(content, tmp_path / "odd.pt", _use_new_zipfile_serialization=zipped)
    refuses(tmp_path / "odd.pt", r"it holds a \w+, not tensors by|none of its [01] tensors", C3D)


@pytest.mark.parametrize("share", [0.3, 0.99])
def test_truncated_checkpoints(tmp_path, small, share):
    tensors, wanted = small
    index = write_checkpoint(tmp_path / "model.ckpt", tensors)
    shard = tmp_path / "model.ckpt.data-00000-of-00001"
    whole = shard.read_bytes()
    shard.write_bytes(whole[: int(len(whole) * share)])
    refuses(index, "it ends before RGB.* does: it is truncated; copy or download it again", wanted)
    shard.unlink()
    refuses(index, "its data model.ckpt.data-00000-of-00001 is not next to it", wanted)
    shard.write_bytes(whole)
    index.write_bytes(index.read_bytes()[: int(index.stat().st_size * share)])
    refuses(index, "it is truncated or no index", wanted)


def test_one_wrong_bit_in_a_checkpoint(tmp_path, small):
    tensors, wanted = small
    index = write_checkpoint(tmp_path / "model.ckpt", tensors)
    shard = tmp_path / "model.ckpt.data-00000-of-00001"
    data = bytearray(shard.read_bytes())
    data[5] ^= 4
    shard.write_bytes(data)
    refuses(index, "the checksum of RGB/inception_i3d/Conv3d_1a_7x7/batch_norm/beta is wrong", wanted)
    for place in (3, len(index.read_bytes()) - 60):
        content = bytearray(index.read_bytes())
        content[place] ^= 4
        (tmp_path / "bent.ckpt.index").write_bytes(content)
        refuses(tmp_path / "bent.ckpt.index", "checksum of a block is wrong", wanted)


def test_checkpoints_that_this_reader_does_not_know(tmp_path):
    def written(pairs, **kind):
        (tmp_path / "x.index").write_bytes(table(pairs, **kind))
        return tmp_path / "x.index"

    refuses(written({"": b"\x08\x01"}, kind=1), "its blocks are compressed")
    refuses(written({"": b"\x08\x01\x10\x01"}), "big-endian")
    refuses(written({"a": b""}), "it has no header")
    refuses(written({"": b"\x08\x01", "a": b"\x3a\x00"}), "stored in slices")
    refuses(written({"": b"\x08\x01", "a": b"\x0f"}), "it is damaged .*wire type 7")
    refuses(written({"": b"\x08\x01", "a": b"\xff" * 12}), "it is damaged .*longer than ten bytes")
    refuses(written({"": b"\x08\x01", "Flow/inception_i3d/x": b"\x08\x01"}), "none of its 1 tensors has a name")


def test_an_index_of_random_bytes_never_does_worse_than_refuse(tmp_path, small):
    tensors, wanted = small
    good = write_checkpoint(tmp_path / "good", tensors).read_bytes()
    random = np.random.default_rng(0)
    for number in range(60):
        bad = bytearray(good[:-48])
        for place in random.integers(0, len(bad), 4):
            bad[place] = random.integers(256)
        footer = bytearray(good[-48:])
        footer[: number % 8] = random.bytes(number % 8)
        (tmp_path / "bad.index").write_bytes(bytes(bad + footer))
        try:
            load(tmp_path / "bad.index", wanted)
        except WeightsError:
            continue


class Evil:
    def __init__(self, flag):
        self.flag = flag

    def __reduce__(self):
        return (open, (str(self.flag), "w"))


def test_no_pickle_gets_to_run_anything(tmp_path, small):
    tensors, wanted = small
    flag = tmp_path / "was-run"
    torch.save({**tensors, "x": Evil(flag)}, tmp_path / "zip.pt")
    refuses(tmp_path / "zip.pt", "its pickle wants to run .*open, which has no place in a file of tensors", wanted)
    torch.save({**tensors, "x": Evil(flag)}, tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    refuses(tmp_path / "old.pt", "no whole file of tensors alone", wanted)
    np.savez(tmp_path / "objects.npz", **{"conv1a/W": np.array([Evil(flag)], dtype=object)})
    refuses(tmp_path / "objects.npz", "holds objects, that is a pickle", C3D)
    assert not flag.exists()


def torch_zip(path, content, data=b"", extra=None):
    records = {"a/data.pkl": content, "a/data/0": data, "a/version": b"3", **(extra or {})}
    return zip_with(path, records)


def tensor_pickle(numel: int, shape: tuple, stride: tuple, offset: int = 0) -> bytes:
    """A state dict of one tensor, with whatever sizes."""

    class Rebuilt:
        def __reduce__(self):
            return torch._utils._rebuild_tensor_v2, (Stored(), offset, shape, stride, False, None)

    class Stored:
        pass

    class Pickler(pickle.Pickler):
        def persistent_id(self, thing):
            return ("storage", torch.FloatStorage, "0", "cpu", numel) if isinstance(thing, Stored) else None

    buffer = io.BytesIO()
    Pickler(buffer, 2).dump({"Conv3d_1a_7x7.bn.bias": Rebuilt()})
    return buffer.getvalue()


def test_archives_that_ask_for_more_than_they_are(tmp_path, monkeypatch):
    name = "Conv3d_1a_7x7.bn.bias"
    monkeypatch.setattr("metrics.weights.tensor_names.NAMES", {"i3d": {"V": {name: name}}})
    wanted = {"i3d": {name: (64,)}}
    data = np.ones(64, np.float32).tobytes()
    good = torch_zip(tmp_path / "good.pt", tensor_pickle(64, (64,), (1,)), data)
    assert load(good, wanted).tensors[name].sum() == 64
    huge = 1 << 40
    cases = {
        "spread": (tensor_pickle(1, (64,), (0,)), data[:4], "reaches beyond its record"),
        "beyond": (tensor_pickle(64, (64,), (1,), 1), data, "reaches beyond its record"),
        "behind": (tensor_pickle(64, (64,), (1,), -4), data, "reaches beyond its record"),
        "wide": (tensor_pickle(64, (huge,), (0,)), data, r"is \(1099511627776,\), i3d wants \(64,\)"),
        "short": (tensor_pickle(64, (64,), (1,)), data[:-4], "has 252 bytes, 256 are wanted"),
        "long": (tensor_pickle(64, (64,), (1,)), data * 2, "unpacks to 512 bytes, at most 256 make sense"),
        "odd": (tensor_pickle(-3, (64,), (1,)), data, "no whole pickle of tensors"),
    }
    for case, (content, octets, match) in cases.items():
        refuses(torch_zip(tmp_path / f"{case}.pt", content, octets), match, wanted)
    bomb = torch_zip(tmp_path / "bomb.pt", tensor_pickle(64, (64,), (1,)), data)
    zip_with(bomb, {"a/data.pkl": bytes(20 << 20)}, zipfile.ZIP_DEFLATED)
    assert bomb.stat().st_size < 1 << 17
    refuses(bomb, "unpacks to 20971520 bytes", wanted)
    packed = {"a/data.pkl": tensor_pickle(64, (64,), (1,)), "a/data/0": data}
    refuses(zip_with(tmp_path / "packed.pt", packed, zipfile.ZIP_DEFLATED), "which torch never does", wanted)
    refuses(zip_with(tmp_path / "two.pt", {"a/data.pkl": b"", "b/data.pkl": b""}), "has one data.pkl", wanted)
    big = torch_zip(tmp_path / "big.pt", tensor_pickle(64, (64,), (1,)), data, {"a/byteorder": b"big"})
    refuses(big, "big-endian", wanted)


def test_a_pickle_that_goes_round_in_circles(tmp_path):
    loop: dict = {}
    loop["again"] = loop
    wide: dict = {}
    for _ in range(40):
        wide = {"a": wide, "b": wide}
    for name, tree in {"loop": loop, "wide": wide}.items():
        refuses(torch_zip(tmp_path / f"{name}.pt", pickle.dumps(tree, 2)), "none of its 0 tensors has a name")


def test_an_npz_that_lies_about_its_size(tmp_path):
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<f4", "fortran_order": False, "shape": (1 << 40,)})
    path = zip_with(tmp_path / "lies.npz", {"conv1a/W.npy": header.getvalue() + bytes(64)})
    refuses(path, "which its shape .* does not explain", C3D)
    bomb = io.BytesIO()
    np.save(bomb, np.zeros(50 << 20, np.uint8))
    path = zip_with(tmp_path / "bomb.npz", {"conv1a/W.npy": bomb.getvalue()}, zipfile.ZIP_DEFLATED)
    refuses(path, "it looks like c3d, but lacks conv1a/b and 20 more", C3D)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_values_that_are_not_finite(tmp_path, small, value):
    tensors, wanted = small
    bad = tensors["Conv3d_2b_1x1.conv3d.weight"].clone()
    bad[3, 4, 0, 0, 0] = value
    save_file({**tensors, "Conv3d_2b_1x1.conv3d.weight": bad}, tmp_path / "nan.safetensors")
    refuses(tmp_path / "nan.safetensors", "Conv3d_2b_1x1.conv3d.weight has values that are not finite", wanted)


def test_other_networks(tmp_path, small):
    tensors, wanted = small
    name = "Conv3d_2b_1x1.conv3d.weight"
    files = {
        "lacks": ({n: t for n, t in tensors.items() if n != name}, "it looks like i3d, but lacks Conv3d_2b_1x1"),
        "extra": ({**tensors, "fc.weight": torch.ones(2)}, "it has the unknown fc.weight"),
        "shape": ({**tensors, name: torch.ones(600, 64, 1, 1, 1)}, r"is \(600, 64, 1, 1, 1\), i3d wants"),
        "half": ({n: t.half() for n, t in tensors.items()}, "is torch.float16, the published weights are float32"),
        "none": ({"conv1.weight": torch.ones(2)}, "none of its 1 tensors has a name of I3D or C3D"),
    }
    for case, (content, match) in files.items():
        save_file(content, tmp_path / f"{case}.safetensors")
        refuses(tmp_path / f"{case}.safetensors", match, wanted)
    save_file(tensors, tmp_path / "i3d.safetensors")
    refuses(tmp_path / "i3d.safetensors", "it holds i3d, c3d is wanted", C3D)


def test_names_are_recognized_by_the_convention_that_explains_most():
    assert recognize(["a", "b"]) is None
    assert recognize(I3D_HASSONY2.values()).whose == "hassony2"
    naming = recognize([*I3D_TENSORFLOW.values(), "global_step"])
    assert (naming.whose, naming.missing, naming.extra) == ("TensorFlow", (), ("global_step",))


def test_mean_clips(tmp_path):
    mean = np.random.default_rng(0).random((3, 16, 128, 171), np.float32) * 255
    np.savez(tmp_path / "flat.npz", mean=mean.astype(np.float64).reshape(1, -1))
    assert torch.equal(read_mean(tmp_path / "flat.npz"), torch.from_numpy(mean))
    np.savez(tmp_path / "other.npz", average=mean)
    np.savez(tmp_path / "small.npz", mean=mean[:, :8])
    np.savez(tmp_path / "wild.npz", mean=mean - 300)
    with pytest.raises(WeightsError, match="has no array named mean, only average"):
        read_mean(tmp_path / "other.npz")
    with pytest.raises(WeightsError, match="which makes no clip of"):
        read_mean(tmp_path / "small.npz")
    with pytest.raises(WeightsError, match=r"values outside 0\.\.255"):
        read_mean(tmp_path / "wild.npz")
    with pytest.raises(WeightsError, match=r"give --mean mean2\.npz"):
        read_mean(tmp_path / "none.npz")


def test_blocks_share_what_keys_share():
    block = block_of([(b"abc", b"1"), (b"abd", b"22")])
    assert block == b"\x00\x03\x01abc1" + b"\x02\x01\x02d22" + struct.pack("<2I", 0, 1)
