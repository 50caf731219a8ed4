"""Messages stay short, and say what was meant."""

from __future__ import annotations

import pickle

import pytest
import torch

from hmn.errors import BundleError, CellError, ConfigError, HMNError, closest, expected_one_of
from hmn.index import ClusterIndex, make_index
from hmn.nn import Strategy
from hmn.qa.config import make_configs

LONG = "long " * 600


@pytest.mark.parametrize("kind", [HMNError, ConfigError, CellError, BundleError])
def test_a_long_value_is_cut_and_the_rest_is_kept(kind: type[HMNError]) -> None:
    said = str(kind(f"the user's index is {LONG!r}, expected text: don't repeat it"))
    assert said.startswith("the user's index is 'long long")
    assert said.endswith("…', expected text: don't repeat it")
    assert len(said) < 200


def test_short_messages_are_unchanged() -> None:
    said = "k is '3', expected a whole number: the user's k, 'k' in the file"
    assert str(ConfigError(said)) == said
    assert str(pickle.loads(pickle.dumps(ConfigError(said)))) == said
    assert ConfigError(3).args == (3,)


def test_a_long_message_without_quotes_keeps_both_ends() -> None:
    said = str(ConfigError(f"k is {[0] * 10_000}, expected a whole number"))
    assert said.startswith("k is [0, 0,")
    assert said.endswith("expected a whole number")
    assert len(said) <= 1_000


@pytest.mark.parametrize(
    "text", [LONG, f"cluster:{LONG}=3", f"cluster:num_probes={LONG}", f"cluster:codes={LONG}"]
)
def test_long_names_of_structures_and_strategies_give_short_messages(text: str) -> None:
    for make in (make_index, Strategy.parse, lambda text: make_configs({"index": text})):
        with pytest.raises(ConfigError) as caught:
            make(text)
        assert len(str(caught.value)) < 600


def test_a_slip_of_the_finger_is_recognised() -> None:
    assert closest("num_cluster", ["num_probes", "num_clusters"]) == "num_clusters"
    assert closest(3, ["num_probes"]) is None
    assert (
        expected_one_of("clustre", ["exact", "cluster"])
        == "expected one of exact, cluster: did you mean cluster?"
    )
    assert expected_one_of("x", ["exact", "cluster"]) == "expected one of exact, cluster"
    with pytest.raises(ConfigError, match="did you mean top-k"):
        Strategy.parse("topk:3")
    with pytest.raises(ConfigError, match="did you mean num_clusters"):
        make_index("cluster:num_cluster=3")


@pytest.mark.parametrize(
    ("structure", "setting", "value"),
    [
        ("exact", "screened", "maybe"),
        ("cluster", "reduction", 3),
        ("cluster", "seed", "x"),
        ("cluster", "seed", 1 << 70),
        ("cluster", "on_progress", 3),
        ("hierarchy", "seed", 1.5),
        ("hierarchy", "on_progress", True),
        ("pca-tree", "reduction", 3),
        ("wta-hash", "reduction", dict),
    ],
)
def test_settings_of_structures_are_checked_when_they_are_given(
    structure: str, setting: str, value: object
) -> None:
    with pytest.raises(ConfigError, match=f"{setting} is .*, expected"):
        make_index(structure, **{setting: value})


@pytest.mark.parametrize("name", [None, 3, ["cluster"]])
def test_an_index_is_made_from_text(name: object) -> None:
    with pytest.raises(ConfigError, match=r"index is .*, expected text"):
        make_index(name)  # type: ignore[arg-type]


def test_a_structure_takes_a_reduction_by_its_name() -> None:
    index = ClusterIndex(num_clusters=3, reduction="one-column")  # type: ignore[arg-type]
    index.build(torch.randn(30, 4))
    assert index.stats()["reduction"] == "one-column"
