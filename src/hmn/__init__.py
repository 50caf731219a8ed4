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
    from hmn.facts.questions import QuestionSet as QuestionSet
    from hmn.facts.table import Fact as Fact
    from hmn.facts.table import FactTable as FactTable
    from hmn.index.protocol import Index as Index
    from hmn.index.registry import make_index as make_index
    from hmn.index.structures.cluster import ClusterIndex as ClusterIndex
    from hmn.index.structures.exact import ExactIndex as ExactIndex
    from hmn.index.structures.faiss import FaissIndex as FaissIndex
    from hmn.index.structures.hierarchy.index import HierarchicalIndex as HierarchicalIndex
    from hmn.index.structures.pca_tree import PCATreeIndex as PCATreeIndex
    from hmn.index.structures.wta_hash import WTAHashIndex as WTAHashIndex
    from hmn.index.tuning import tune as tune
    from hmn.nn.attention.hard import HardAttention as HardAttention
    from hmn.nn.attention.kmips import KMIPSAttention as KMIPSAttention
    from hmn.nn.attention.softmax import SoftmaxAttention as SoftmaxAttention
    from hmn.nn.candidates.strategy import Strategy as Strategy
    from hmn.nn.loss import marginal_nll as marginal_nll
    from hmn.nn.loss import sampled_nll as sampled_nll
    from hmn.nn.memory.encoded import EncodedMemory as EncodedMemory
    from hmn.nn.memory.stored import Memory as Memory
    from hmn.nn.network import MemoryNetwork as MemoryNetwork
    from hmn.nn.parts import CellMemory as CellMemory
    from hmn.nn.reader import KMIPSReader as KMIPSReader
    from hmn.nn.reader import SoftmaxReader as SoftmaxReader
    from hmn.qa.answer import Answer as Answer
    from hmn.qa.factoid_qa import FactoidQA as FactoidQA
    from hmn.qa.metrics import Evaluation as Evaluation
    from hmn.results import Read as Read
    from hmn.results import SearchResult as SearchResult

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
    "hmn.index.protocol": ["Index"],
    "hmn.index.structures.cluster": ["ClusterIndex"],
    "hmn.index.structures.hierarchy.index": ["HierarchicalIndex"],
    "hmn.index.structures.exact": ["ExactIndex"],
    "hmn.index.structures.faiss": ["FaissIndex"],
    "hmn.index.structures.pca_tree": ["PCATreeIndex"],
    "hmn.index.registry": ["make_index"],
    "hmn.nn.candidates.strategy": ["Strategy"],
    "hmn.index.tuning": ["tune"],
    "hmn.index.structures.wta_hash": ["WTAHashIndex"],
    "hmn.nn.attention.kmips": ["KMIPSAttention"],
    "hmn.nn.attention.softmax": ["SoftmaxAttention"],
    "hmn.nn.attention.hard": ["HardAttention"],
    "hmn.nn.loss": ["marginal_nll", "sampled_nll"],
    "hmn.nn.memory.encoded": ["EncodedMemory"],
    "hmn.nn.memory.stored": ["Memory"],
    "hmn.nn.parts": ["CellMemory"],
    "hmn.nn.network": ["MemoryNetwork"],
    "hmn.nn.reader": ["KMIPSReader", "SoftmaxReader"],
    "hmn.qa.answer": ["Answer"],
    "hmn.facts.table": ["Fact", "FactTable"],
    "hmn.qa.metrics": ["Evaluation"],
    "hmn.qa.factoid_qa": ["FactoidQA"],
    "hmn.facts.questions": ["QuestionSet"],
    "hmn.results": ["Read", "SearchResult"],
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
