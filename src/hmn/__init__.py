"""Trainable attention over millions of memory cells, and question answering over a table of facts.

The public names; each is imported at its first use, so that ``import hmn`` and ``hmn --help`` are instant.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hmn.errors import BundleError as BundleError
    from hmn.errors import ConfigError as ConfigError
    from hmn.errors import DataError as DataError
    from hmn.errors import HMNError as HMNError
    from hmn.errors import MissingPackageError as MissingPackageError
    from hmn.errors import NonFiniteError as NonFiniteError
    from hmn.errors import NotFittedError as NotFittedError
    from hmn.errors import ShapeError as ShapeError
    from hmn.index.base import Index as Index
    from hmn.index.cluster import ClusterIndex as ClusterIndex
    from hmn.index.exact import ExactIndex as ExactIndex
    from hmn.index.faiss import FaissIndex as FaissIndex
    from hmn.index.hierarchy import HierarchicalIndex as HierarchicalIndex
    from hmn.index.pca_tree import PCATreeIndex as PCATreeIndex
    from hmn.index.registry import make_index as make_index
    from hmn.index.strategy import Strategy as Strategy
    from hmn.index.tune import tune as tune
    from hmn.index.wta_hash import WTAHashIndex as WTAHashIndex
    from hmn.nn.attention import KMIPSAttention as KMIPSAttention
    from hmn.nn.attention import SoftmaxAttention as SoftmaxAttention
    from hmn.nn.hard_attention import HardAttention as HardAttention
    from hmn.nn.loss import marginal_nll as marginal_nll
    from hmn.nn.loss import sampled_nll as sampled_nll
    from hmn.nn.memory import CellMemory as CellMemory
    from hmn.nn.memory import EncodedMemory as EncodedMemory
    from hmn.nn.memory import Memory as Memory
    from hmn.nn.network import MemoryNetwork as MemoryNetwork
    from hmn.nn.reader import KMIPSReader as KMIPSReader
    from hmn.nn.reader import SoftmaxReader as SoftmaxReader
    from hmn.qa.answer import Answer as Answer
    from hmn.qa.facts import Fact as Fact
    from hmn.qa.facts import FactTable as FactTable
    from hmn.qa.metrics import Evaluation as Evaluation
    from hmn.qa.model import FactoidQA as FactoidQA
    from hmn.qa.questions import QuestionSet as QuestionSet
    from hmn.typing import Read as Read
    from hmn.typing import SearchResult as SearchResult

__version__ = "0.1.0"

_HOME = {
    "hmn.errors": [
        "BundleError",
        "ConfigError",
        "DataError",
        "HMNError",
        "MissingPackageError",
        "NonFiniteError",
        "NotFittedError",
        "ShapeError",
    ],
    "hmn.index.base": ["Index"],
    "hmn.index.cluster": ["ClusterIndex"],
    "hmn.index.hierarchy": ["HierarchicalIndex"],
    "hmn.index.exact": ["ExactIndex"],
    "hmn.index.faiss": ["FaissIndex"],
    "hmn.index.pca_tree": ["PCATreeIndex"],
    "hmn.index.registry": ["make_index"],
    "hmn.index.strategy": ["Strategy"],
    "hmn.index.tune": ["tune"],
    "hmn.index.wta_hash": ["WTAHashIndex"],
    "hmn.nn.attention": ["KMIPSAttention", "SoftmaxAttention"],
    "hmn.nn.hard_attention": ["HardAttention"],
    "hmn.nn.loss": ["marginal_nll", "sampled_nll"],
    "hmn.nn.memory": ["CellMemory", "EncodedMemory", "Memory"],
    "hmn.nn.network": ["MemoryNetwork"],
    "hmn.nn.reader": ["KMIPSReader", "SoftmaxReader"],
    "hmn.qa.answer": ["Answer"],
    "hmn.qa.facts": ["Fact", "FactTable"],
    "hmn.qa.metrics": ["Evaluation"],
    "hmn.qa.model": ["FactoidQA"],
    "hmn.qa.questions": ["QuestionSet"],
    "hmn.typing": ["Read", "SearchResult"],
}
_MODULE_OF = {name: module for module, names in _HOME.items() for name in names}

__all__ = sorted(_MODULE_OF)


def __getattr__(name: str) -> Any:
    """Import a public name at its first use."""
    if name not in _MODULE_OF:
        raise AttributeError(f"module 'hmn' has no attribute {name!r}")
    value = getattr(import_module(_MODULE_OF[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """The public names."""
    return [*__all__, "__version__"]
