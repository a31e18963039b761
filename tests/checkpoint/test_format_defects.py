"""Files of other layouts that are damaged, hostile or of something else: one line each."""

import argparse
import io
import pickle
from pathlib import Path

import pytest
import safetensors.torch
import torch
from helpers import random_model
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.optim.swa_utils import AveragedModel

import mixer
from mixer.checkpoint import CheckpointError, convert, from_file, open_checkpoint
from mixer.config import MixerConfig

CONFIG = MixerConfig(4, 2, 8, 6, 10, num_classes=3, image_size=32)


@pytest.fixture
def file(tmp_path):
    mixer.save_npz(random_model(CONFIG), tmp_path / "model.npz")
    return tmp_path / "model.npz"


class Trap:
    def __reduce__(self):
        return (print, ("sprung",))


def test_nothing_is_unpickled(tmp_path, capsys):
    torch.save({"stem.weight": Trap()}, tmp_path / "trap.pth")
    (tmp_path / "old.bin").write_bytes(pickle.dumps(Trap()))
    for name in ("trap.pth", "old.bin"):
        with pytest.raises(CheckpointError, match="not a file of weights") as caught:
            from_file(tmp_path / name)
        assert "\n" not in str(caught.value)
    assert capsys.readouterr().out == ""


def test_what_training_scripts_save_beside_the_weights_does_no_harm(tmp_path):
    """timm keeps its command line, torchvision's script the state of an average."""
    model = random_model(CONFIG)
    namespace = argparse.Namespace(lr=0.1, model="mixer", size=[3, 32])
    torch.save({"state_dict": model.state_dict(), "args": namespace}, tmp_path / "timm.pth")
    with torch.serialization.safe_globals([argparse.Namespace]):
        from_file(tmp_path / "timm.pth")
        assert argparse.Namespace in torch.serialization.get_safe_globals()
    averaged = AveragedModel(model).state_dict()
    torch.save({"model": {}, "model_ema": averaged}, tmp_path / "average.pth")
    for name in ("timm.pth", "average.pth"):
        found = from_file(tmp_path / name)
        for mine, theirs in zip(found.parameters(), model.parameters(), strict=True):
            assert torch.equal(mine, theirs)


def test_an_object_that_is_not_let_pass_is_named(tmp_path):
    content = {"state_dict": random_model(CONFIG).state_dict(), "args": Path("x")}
    torch.save(content, tmp_path / "path.pth")
    with pytest.raises(CheckpointError, match=r"it holds an object of pathlib\."):
        from_file(tmp_path / "path.pth")


def test_damaged_files(file, tmp_path):
    convert(file, tmp_path / "m.safetensors")
    torch.save(safetensors.torch.load_file(tmp_path / "m.safetensors"), tmp_path / "m.pth")
    for name in ("m.safetensors", "m.pth"):
        content = (tmp_path / name).read_bytes()
        for piece in (content[: len(content) // 2], b"", b"<html>a login page</html>"):
            (tmp_path / name).write_bytes(piece)
            with pytest.raises(CheckpointError, match=name) as caught:
                from_file(tmp_path / name)
            assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"head.bias": torch.zeros(4)}, r"head\.bias: expected shape \(3,\), found \(4,\)"),
        ({"head.bias": None}, r"head\.bias: expected this array, found none"),
        ({"extra": torch.zeros(1)}, "extra: found an array that a Mixer does not have"),
        ({"head.bias": torch.zeros(3, dtype=torch.int64)}, "expected floating point numbers"),
        ({"head.bias": torch.full((3,), float("nan"))}, r"head\.bias: expected finite numbers"),
        ({"blocks.20000.x": torch.zeros(1)}, r"blocks\.20000\.x: found an array"),
        ({"blocks.7.x": torch.zeros(1)}, r"found blocks\.7, but no blocks\.2"),
    ],
)
@pytest.mark.parametrize("ending", ["safetensors", "pth"])
def test_files_that_do_not_fit(tmp_path, ending, change, message):
    state = random_model(CONFIG).state_dict() | change
    state = {name: value for name, value in state.items() if value is not None}
    path = tmp_path / f"m.{ending}"
    if ending == "pth":
        torch.save(state, path)
    else:
        safetensors.torch.save_file(state, path)
    with pytest.raises(CheckpointError, match=message):
        from_file(path)
    with pytest.raises(CheckpointError, match=message):
        convert(path, tmp_path / "out.npz")
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize("value", [3, "text", [torch.zeros(3)], {"head.bias": {"a": 1}}])
def test_torch_files_of_something_else(tmp_path, value):
    torch.save(value, tmp_path / "m.pth")
    with pytest.raises(CheckpointError, match="expected"):
        from_file(tmp_path / "m.pth")


def test_another_network_of_timm_is_refused(tmp_path):
    reason = "needs the extra [bench]: pip install -e '.[bench]'"
    timm = pytest.importorskip("timm", reason=reason)
    torch.save(timm.create_model("resmlp_12_224").state_dict(), tmp_path / "resmlp.pth")
    with pytest.raises(CheckpointError, match=r"expected this array|does not have"):
        from_file(tmp_path / "resmlp.pth")


@pytest.mark.parametrize(
    ("target", "layout", "message"),
    [
        ("out.pth", None, "ends in .npz or .safetensors"),
        ("out", None, "ends in .npz or .safetensors"),
        ("out.npz", "timm", "expected .safetensors for the layout timm"),
        ("out.safetensors", "official", "expected .npz for the layout official"),
        ("out.npz", "keras", "layout: expected one of official, ours, timm, found 'keras'"),
        ("nowhere/out.npz", None, "expected a folder that is there"),
    ],
)
def test_targets_that_cannot_be(file, tmp_path, target, layout, message):
    with pytest.raises(ValueError, match=message):
        convert(file, tmp_path / target, layout)
    assert [path.name for path in tmp_path.iterdir()] == [file.name]


def test_sources_that_cannot_be(tmp_path):
    with pytest.raises(CheckpointError, match="expected a file, found a folder"):
        open_checkpoint(tmp_path)
    for name in ("a.npz", "a.safetensors", "a.pth"):
        with pytest.raises(CheckpointError, match="no such file"):
            open_checkpoint(tmp_path / name)
    with pytest.raises(CheckpointError, match=r"ends in one of \.npz, \.safetensors"):
        open_checkpoint(tmp_path / "a.h5")


def test_a_tensor_that_claims_more_than_it_holds(tmp_path):
    """A stride of zero makes ten numbers out of one; the shape is compared before it is copied."""
    state = random_model(CONFIG).state_dict()
    state["head.bias"] = torch.zeros(1).expand(10**12)
    buffer = io.BytesIO()
    torch.save(state, buffer)
    (tmp_path / "m.pth").write_bytes(buffer.getvalue())
    with pytest.raises(CheckpointError, match=r"expected shape \(3,\)"):
        from_file(tmp_path / "m.pth")


@settings(max_examples=150, deadline=None, derandomize=True)
@given(data=st.data())
@pytest.mark.parametrize("ending", ["npz", "safetensors"])
def test_fuzz_nothing_else_is_raised(data, ending, contents, tmp_path_factory):
    """Whatever bytes are off: a ``CheckpointError``, or a model; never another error."""
    content = bytearray(contents[ending])
    if data.draw(st.booleans()):
        content = content[: data.draw(st.integers(0, len(content) - 1))]
    # The headers are at the beginning of the one and, in part, at the end of the other.
    places = st.one_of(st.integers(0, 400), st.integers(-400, -1), st.integers(-(2**20), 2**20))
    for _ in range(data.draw(st.integers(0 if len(content) < len(contents[ending]) else 1, 8))):
        if content:
            content[data.draw(places) % len(content)] ^= data.draw(st.integers(1, 255))
    path = tmp_path_factory.getbasetemp() / f"fuzz.{ending}"
    path.write_bytes(bytes(content))
    said = ""
    try:
        from_file(path)
    except CheckpointError as error:
        said = str(error)
    assert "\n" not in said and len(said) < 1000


@pytest.fixture(scope="module")
def contents(tmp_path_factory):
    """The bytes of a small file of each kind."""
    folder = tmp_path_factory.mktemp("contents")
    mixer.save_npz(random_model(CONFIG), folder / "m.npz")
    convert(folder / "m.npz", folder / "m.safetensors")
    return {ending: (folder / f"m.{ending}").read_bytes() for ending in ("npz", "safetensors")}
