"""What is written into a bundle comes back bit for bit."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from tests.store.small import NAMES, load, save

import hmn.store.bundle as bundle_module
from hmn.errors import BundleError
from hmn.store.bundle import BundleReader, write_json, write_tensors, writing_bundle

arrays = st.sampled_from([np.float32, np.float16, np.int64]).flatmap(
    lambda dtype: hnp.arrays(dtype, hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4))
)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.dictionaries(st.text(max_size=5), arrays, max_size=4))
def test_tensors_come_back_bit_for_bit(tmp_path: Path, named: dict[str, np.ndarray]) -> None:
    named.pop("__metadata__", None)
    with writing_bundle(tmp_path / "b") as folder:
        write_tensors(folder, "t.safetensors", {key: torch.from_numpy(a) for key, a in named.items()})
    got = BundleReader(tmp_path / "b").tensors("t.safetensors")
    assert got.keys() == named.keys()
    for key, array in named.items():
        assert got[key].numpy().dtype == array.dtype
        assert got[key].numpy().shape == array.shape
        assert got[key].numpy().tobytes() == array.tobytes()


def test_views_shared_and_conjugated_tensors_keep_their_values(tmp_path: Path) -> None:
    base = torch.arange(12.0, requires_grad=True).reshape(3, 4)
    wave = torch.tensor([1 + 2j, 3 - 4j])
    tensors = {
        "base": base,
        "same": base,
        "row": base[1],
        "turned": base.T,
        "conj": wave.conj(),
        "imag": wave.conj().imag,
    }
    with writing_bundle(tmp_path / "b") as folder:
        write_tensors(folder, "t.safetensors", tensors)
    got = BundleReader(tmp_path / "b").tensors("t.safetensors")
    assert got["imag"].tolist() == [-2.0, 4.0]
    assert got["conj"].tolist() == [1 - 2j, 3 + 4j]
    for key in ("base", "same", "row", "turned"):
        assert got[key].tolist() == tensors[key].tolist()
    got["base"].add_(1)
    assert got["same"].tolist() == base.tolist()
    assert BundleReader(tmp_path / "b").tensors("t.safetensors")["base"].tolist() == base.tolist()


@pytest.mark.parametrize("tensor", [torch.zeros(2, 2).to_sparse(), torch.zeros(2, device="meta")])
def test_tensors_without_dense_data_are_refused(tmp_path: Path, tensor: torch.Tensor) -> None:
    with pytest.raises(BundleError, match=r"tensor 'w' is .*expected a dense one"):
        write_tensors(tmp_path, "t.safetensors", {"w": tensor})


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.dictionaries(st.text(), json_values, max_size=4))
def test_json_comes_back_and_order_does_not_matter(tmp_path: Path, obj: dict[str, Any]) -> None:
    with writing_bundle(tmp_path / "b") as folder:
        write_json(folder, "a.json", obj)
        write_json(folder, "b.json", dict(reversed(obj.items())))
    reader = BundleReader(tmp_path / "b")
    assert reader.json("a.json") == obj
    assert reader.file("a.json").read_bytes() == reader.file("b.json").read_bytes()


@pytest.mark.parametrize("obj", [{"x": float("nan")}, {"x": {1}}, {"x": "\ud800"}, {"x": {1: 0, "1": 0}}])
def test_objects_that_could_not_be_read_back_are_refused(tmp_path: Path, obj: dict[str, Any]) -> None:
    with pytest.raises(BundleError, match=r"config\.json"):
        write_json(tmp_path, "config.json", obj)
    assert not (tmp_path / "config.json").exists()


def test_same_content_gives_the_same_bytes(tmp_path: Path) -> None:
    save(tmp_path / "a", 7)
    save(tmp_path / "b", 7)
    held = sorted(file.name for file in (tmp_path / "a").iterdir())
    assert held == sorted([*NAMES, "manifest.json"])
    for name in held:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_others_may_read_what_their_umask_allows(tmp_path: Path) -> None:
    save(tmp_path / "b", 1)
    (tmp_path / "usual").touch()
    usual = (tmp_path / "usual").stat().st_mode
    assert {file.stat().st_mode for file in (tmp_path / "b").iterdir()} == {usual}
    (tmp_path / "usual_folder").mkdir()
    assert (tmp_path / "b").stat().st_mode == (tmp_path / "usual_folder").stat().st_mode


def test_unlisted_files_are_ignored_and_unknown_ones_named(tmp_path: Path) -> None:
    save(tmp_path, 3)
    (tmp_path / "notes.txt").write_text("mine")
    assert load(tmp_path) == 3
    reader = BundleReader(tmp_path)
    assert reader.has("config.json")
    for name in ("notes.txt", "manifest.json", "../x"):
        assert not reader.has(name)
        with pytest.raises(BundleError, match=r"no file .* it has config\.json, facts\.parquet, model\.safe"):
            reader.file(name)


def test_files_of_the_wrong_kind_are_named(tmp_path: Path) -> None:
    with writing_bundle(tmp_path) as folder:
        for name in ("list.json", "bad.json", "bad.safetensors"):
            (folder / name).write_bytes(b"[]" if name == "list.json" else b"\x80{")
    reader = BundleReader(tmp_path)
    with pytest.raises(BundleError, match=r"list\.json: JSON of type list, expected an object"):
        reader.json("list.json")
    with pytest.raises(BundleError, match=r"bad\.json: not valid JSON"):
        reader.json("bad.json")
    with pytest.raises(BundleError, match=r"bad\.safetensors: cannot be read as safetensors"):
        reader.tensors("bad.safetensors")


def test_a_file_changed_in_place_since_it_was_checked_is_not_given(tmp_path: Path) -> None:
    """Same size, same inode: only the time of change differs."""
    save(tmp_path / "b", 1)
    file = tmp_path / "b" / "facts.parquet"
    reader = BundleReader(tmp_path / "b")
    before = file.stat()
    with file.open("r+b") as stream:
        stream.write(b"\x02")
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns + 1))
    after = file.stat()
    assert (after.st_ino, after.st_size) == (before.st_ino, before.st_size)
    with pytest.raises(BundleError, match=r"facts\.parquet: replaced or changed since"):
        reader.file("facts.parquet")
    with pytest.raises(BundleError, match=r"facts\.parquet: damaged"):
        BundleReader(tmp_path / "b")


@pytest.mark.parametrize("kind", ["json", "tensors"])
def test_a_file_replaced_while_it_is_read_is_not_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    save(tmp_path / "b", 1)
    reader = BundleReader(tmp_path / "b")
    real_bytes, real_load = Path.read_bytes, bundle_module.load_file

    def replaced(read: Any) -> Any:
        def reading(*arguments: Any) -> Any:
            monkeypatch.undo()
            save(tmp_path / "b", 2)
            return read(*arguments)

        return reading

    monkeypatch.setattr(Path, "read_bytes", replaced(real_bytes))
    monkeypatch.setattr(bundle_module, "load_file", replaced(real_load))
    read = reader.json if kind == "json" else reader.tensors
    with pytest.raises(BundleError, match="replaced or changed since"):
        read("config.json" if kind == "json" else "model.safetensors")


def test_a_bundle_is_complete_and_the_old_one_in_place_when_it_is_sealed(tmp_path: Path) -> None:
    seen: list[int] = []

    def look(new: Path) -> None:
        seen.extend(BundleReader(path).json("number.json")["n"] for path in (new, tmp_path / "bundle"))
        if len(seen) > 2:
            raise ValueError("not this one")

    for number in (1, 2):
        with writing_bundle(tmp_path / "bundle", on_sealed=look if number > 1 else None) as folder:
            write_json(folder, "number.json", {"n": number})
    assert seen == [2, 1]
    with (
        pytest.raises(ValueError, match="not this one"),
        writing_bundle(tmp_path / "bundle", on_sealed=look) as folder,
    ):
        write_json(folder, "number.json", {"n": 3})
    assert seen == [2, 1, 3, 2]
    assert BundleReader(tmp_path / "bundle").json("number.json") == {"n": 2}
    assert [path.name for path in tmp_path.iterdir()] == ["bundle"]
