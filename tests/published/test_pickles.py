"""The reader of pickles calls nothing that a file names, and gives tensors, containers and stubs."""

import builtins
import functools
import importlib
import io
import os
import pickle
import shutil
import subprocess
import sys
import tracemalloc

import pytest
import torch
from published_files import module_named, write_pickle
from torch import nn

from gans.published.files import contents
from gans.published.pickles import Stub, read


class Calls:
    """An object whose pickle calls a function."""

    def __init__(self, function, *args):
        self.called = function, args

    def __reduce__(self):
        return self.called


def evil_storage():
    held = io.BytesIO()
    torch.save(Calls(os.system, "touch pwned"), held)
    return held.getvalue()


HOSTILE = {
    "os.system": Calls(os.system, "touch pwned"),
    "eval": Calls(eval, "open('pwned', 'w')"),
    "exec": Calls(exec, "open('pwned', 'w')"),
    "open": Calls(open, "pwned", "w"),
    "getattr": Calls(getattr, Calls(importlib.import_module, "os"), "system"),
    "partial": Calls(functools.partial, os.system, "touch pwned"),
    "import": Calls(builtins.__import__, "os"),
    "popen": Calls(subprocess.Popen, ["touch", "pwned"]),
    "rmtree": Calls(shutil.rmtree, "somewhere"),
    "torch.load": Calls(torch.load, "pwned"),
    "torch.hub": Calls(torch.hub.load, "nobody/nothing", "main"),
    "torch.jit": Calls(torch.jit.load, "pwned"),
    "storage": Calls(torch.storage._load_from_bytes, evil_storage()),
    "pickle": Calls(pickle.loads, pickle.dumps(1)),
}
# Programs in the opcodes of pickle itself.
TENSOR = pickle.dumps(Calls(torch._utils._rebuild_tensor_v2, torch.arange(8.0)._typed_storage(), 0, (8,), (1,)), 3)[:-1]
MODULE = b"\x80\x02ctorch.nn.modules.linear\nLinear\n)\x81"
RAW = {
    "dotted": b"\x80\x04\x8c\x17torch.nn.modules.linear\x8c\x0ftorch.os.system\x93.",
    "set on a function": b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\nN}X\x08\x00\x00\x00__code__K\x01s\x86b.",
    "set on a class": b"\x80\x02ctorch.nn.modules.linear\nLinear\nN}X\x0c\x00\x00\x00__setstate__K\x01s\x86b.",
    "set on a container": b"\x80\x02ccollections\nOrderedDict\nN}X\x04\x00\x00\x00keysK\x01s\x86b.",
    "outside storage": b"\x80\x02X\x01\x00\x00\x00aQ.",
    "extension": b"\x80\x02\x82\x01.",
    "older instances": b"(ios\nsystem\n.",
    "set on a dictionary's class": b"\x80\x02cdnnlib.util\nEasyDict\nN}X\x05\x00\x00\x00itemsctorch\nSize\ns\x86b.",
    "state of a dictionary": b"\x80\x02cdnnlib.util\nEasyDict\n)\x81}X\x05\x00\x00\x00itemsctorch\nSize\nsb.",
    "gradient of a tensor": TENSOR + b"(\x88N}tb.",
    "state of a tensor": TENSOR + b"(NK\x00))tb.",
    "codec": b"\x80\x04ctorch\ndevice\nC\x01xX\x04\x00\x00\x00idna\x86R.",
    "terminal": b"\x80\x04\x8c\x05\x1b[2J\n\x8c\x01a\x93.",
    "terminal, number": b"\x80\x04cnumpy\ndtype\n\x8c\x05\x1b[2J\n\x85R.",
    "long array of bytes": b"\x80\x05\x96\x00\x00\x00\x00\x10\x00\x00\x00.",
}


@pytest.fixture
def at(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "somewhere").mkdir()
    return tmp_path


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize("place", ["alone", "within"])
def test_a_hostile_pickle_is_refused_in_a_sentence_and_calls_nothing(at, name, place):
    content = HOSTILE[name] if place == "alone" else {"G_ema": [torch.ones(2), HOSTILE[name]]}
    path = write_pickle(at / "evil.pkl", content)
    with pytest.raises(ValueError, match=r"^evil\.pkl is (refused: it asks for [\w.]+|no whole pickle)") as refusal:
        read(path.relative_to(at))
    assert "\n" not in str(refusal.value)
    assert sorted(file.name for file in at.iterdir()) == ["evil.pkl", "somewhere"]


@pytest.mark.parametrize("name", RAW)
def test_a_hostile_program_is_refused(at, name):
    path = at / "evil.pkl"
    path.write_bytes(RAW[name])
    with pytest.raises(ValueError, match=r"is refused|is no whole pickle") as refusal:
        read(path)
    assert str(refusal.value).isprintable()


def test_a_text_in_another_encoding_imports_no_module(at, monkeypatch):
    monkeypatch.delitem(sys.modules, "encodings.punycode", raising=False)
    (at / "evil.pkl").write_bytes(b"\x80\x04ctorch\ndevice\nC\x01xX\x08\x00\x00\x00punycode\x86R.")
    with pytest.raises(ValueError, match="a device is a bytes"):
        read(at / "evil.pkl")
    assert "encodings.punycode" not in sys.modules


def test_the_memo_is_as_long_as_its_entries(at):
    (at / "evil.pkl").write_bytes(b"\x80\x02Nr\xff\xff\xff\x3f.")  # an array of that length has 16 GiB
    tracemalloc.start()
    try:
        assert read(at / "evil.pkl") is None
        assert tracemalloc.get_traced_memory()[1] < 2**20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    "children", [b"}X\x01\x00\x00\x00ah\x01s", b"}(X\x01\x00\x00\x00ah\x01X\x01\x00\x00\x00bh\x01u"]
)
def test_a_module_within_itself_is_taken_once(at, children):
    parameters = b"X\x0b\x00\x00\x00_parameters}X\x01\x00\x00\x00w" + TENSOR[2:] + b"s"
    state = b"}(X\x08\x00\x00\x00_modules" + children + parameters + b"u"
    (at / "network.pkl").write_bytes(MODULE + b"q\x01" + state + b"b.")
    assert list(dict(read(at / "network.pkl").tensors())) == ["w"]


def test_a_hostile_file_of_torch_is_refused(at):
    torch.save({"model_state_dict": Calls(os.system, "touch pwned")}, at / "evil.pth")
    with pytest.raises(ValueError, match=r"evil\.pth is no whole file of tensors and plain values") as refusal:
        contents(at / "evil.pth")
    assert "\n" not in str(refusal.value)
    assert not (at / "pwned").exists()


def test_the_source_code_in_a_pickle_of_stylegan_is_not_run(at, monkeypatch):
    def never(meta):
        raise AssertionError

    rebuild = module_named(monkeypatch, "torch_utils.persistence", "_reconstruct_persistent_obj", object)
    monkeypatch.setattr(rebuild, "__new__", lambda kind, meta: never(meta))
    state = {"_parameters": {"bias": nn.Parameter(torch.arange(3.0))}, "_buffers": {}, "_modules": {}, "z_dim": 4}
    meta = {"type": "class", "version": 6, "class_name": "Generator", "state": state}
    held = {"G_ema": Calls(rebuild, meta | {"module_src": "open('pwned', 'w')"})}
    made = read(write_pickle(at / "network.pkl", held))["G_ema"]
    assert type(made).__name__ == "Generator"
    assert made.state["z_dim"] == 4
    assert {name: value.tolist() for name, value in made.tensors()} == {"bias": [0, 1, 2]}
    assert not (at / "pwned").exists()


@pytest.mark.parametrize("protocol", [3, 4])
def test_a_module_becomes_a_stub_with_its_state_dict(at, protocol):
    network = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2))
    network[0].kept = torch.bfloat16, torch.Size([2]), torch.device("cpu")
    stub = read(write_pickle(at / "network.pkl", network, protocol))
    assert isinstance(stub, Stub)
    assert stub.part("_modules")["0"].state["kept"] == (torch.bfloat16, (2,), "cpu")
    held = dict(stub.tensors())
    assert list(held) == list(network.state_dict())
    assert all(torch.equal(held[name], value) for name, value in network.state_dict().items())


def test_tensors_of_every_type_and_view_keep_their_values(at):
    whole = torch.arange(24.0).view(4, 6)
    held = [whole[1:3, ::2], whole.T, whole.half(), whole.long()[3], torch.empty(0, 3), torch.tensor(5), whole > 3]
    found = read(write_pickle(at / "tensors.pkl", held))
    assert all(torch.equal(one, other) and one.dtype == other.dtype for one, other in zip(held, found, strict=True))


@pytest.mark.parametrize(
    ("offset", "size", "stride"), [(0, (9,), (1,)), (5, (4,), (1,)), (0, (3, 3), (4, 1)), (-1, (1,), (1,))]
)
def test_a_tensor_beyond_its_storage_is_refused(at, offset, size, stride):
    storage = torch.arange(8.0)._typed_storage()
    call = Calls(torch._utils._rebuild_tensor_v2, storage, offset, size, stride, False, {})
    with pytest.raises(ValueError, match="is no whole pickle of a network: a tensor"):
        read(write_pickle(at / "tensor.pkl", call))


@pytest.mark.parametrize("content", [b"", b"<!DOCTYPE html>", pickle.dumps([torch.ones(99)])[:200]])
def test_a_file_that_is_no_whole_pickle_is_named(at, content):
    (at / "network.pkl").write_bytes(content)
    with pytest.raises(ValueError, match=r"network\.pkl is no whole pickle of a network: ."):
        contents(at / "network.pkl")


def test_a_pickle_of_tensorflow_says_what_converts_it(at, monkeypatch):
    network = module_named(monkeypatch, "dnnlib.tflib.network", "Network", object)
    with pytest.raises(ValueError, match=r"dnnlib\.tflib\.network\.Network, .* TensorFlow, which `legacy\.py`"):
        read(write_pickle(at / "network.pkl", network()))
