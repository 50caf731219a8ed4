"""Trainable attention over millions of memory cells, and question answering over a table of facts.

Each name is imported at its first use.
"""

from typing import TYPE_CHECKING

from hmn.lazy import lazy_names

if TYPE_CHECKING:
    from hmn.errors import BundleError as BundleError
    from hmn.errors import CellError as CellError
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
    from hmn.index.allowed import Where as Where
    from hmn.index.clustering.reduction import Reduction as Reduction
    from hmn.index.protocol import Clustered as Clustered
    from hmn.index.protocol import Index as Index
    from hmn.index.protocol import Live as Live
    from hmn.index.protocol import Searcher as Searcher
    from hmn.index.protocol import Teachable as Teachable
    from hmn.index.protocol import Tunable as Tunable
    from hmn.index.registry import make_index as make_index
    from hmn.index.structures.cluster import ClusterIndex as ClusterIndex
    from hmn.index.structures.exact import ExactIndex as ExactIndex
    from hmn.index.structures.faiss import FaissIndex as FaissIndex
    from hmn.index.structures.hierarchy.index import HierarchicalIndex as HierarchicalIndex
    from hmn.index.structures.pca_tree import PCATreeIndex as PCATreeIndex
    from hmn.index.structures.wta_hash import WTAHashIndex as WTAHashIndex
    from hmn.index.tuning import Tuned as Tuned
    from hmn.index.tuning import recall_at_k as recall_at_k
    from hmn.index.tuning import tune as tune
    from hmn.nn.attention.hard import HardAttention as HardAttention
    from hmn.nn.attention.kmips import KMIPSAttention as KMIPSAttention
    from hmn.nn.attention.softmax import SoftmaxAttention as SoftmaxAttention
    from hmn.nn.candidates.strategy import Candidates as Candidates
    from hmn.nn.candidates.strategy import Strategy as Strategy
    from hmn.nn.clipping import clip_grad_norm_ as clip_grad_norm_
    from hmn.nn.hops import HopReader as HopReader
    from hmn.nn.hops import HopsRead as HopsRead
    from hmn.nn.hops import QueryUpdate as QueryUpdate
    from hmn.nn.layer.keys import clustered_keys as clustered_keys
    from hmn.nn.layer.layer import MemoryLayer as MemoryLayer
    from hmn.nn.layer.layer import split_parameters as split_parameters
    from hmn.nn.layer.use import CellUse as CellUse
    from hmn.nn.loss import marginal_nll as marginal_nll
    from hmn.nn.loss import sampled_nll as sampled_nll
    from hmn.nn.memory.encoded import EncodedMemory as EncodedMemory
    from hmn.nn.memory.indexed import IndexedMemory as IndexedMemory
    from hmn.nn.memory.operator import register_search as register_search
    from hmn.nn.memory.ring.memory import RingMemory as RingMemory
    from hmn.nn.memory.stored import Memory as Memory
    from hmn.nn.network import MemoryNetwork as MemoryNetwork
    from hmn.nn.parts import CellEncoder as CellEncoder
    from hmn.nn.parts import CellMemory as CellMemory
    from hmn.nn.parts import OutputModule as OutputModule
    from hmn.nn.parts import Reader as Reader
    from hmn.nn.parts import Writer as Writer
    from hmn.nn.reader import KMIPSReader as KMIPSReader
    from hmn.nn.reader import SoftmaxReader as SoftmaxReader
    from hmn.nn.row_adam import RowAdam as RowAdam
    from hmn.nn.writing.controller import MemoryController as MemoryController
    from hmn.nn.writing.cores import RecurrentCore as RecurrentCore
    from hmn.nn.writing.cores import TransformerCore as TransformerCore
    from hmn.nn.writing.heads import CellReader as CellReader
    from hmn.nn.writing.heads import CellWriter as CellWriter
    from hmn.nn.writing.memory import WrittenMemory as WrittenMemory
    from hmn.qa.answer import Answer as Answer
    from hmn.qa.answer import Answers as Answers
    from hmn.qa.changes.changes import FactChange as FactChange
    from hmn.qa.factoid_qa import FactoidQA as FactoidQA
    from hmn.qa.metrics import Evaluation as Evaluation
    from hmn.results import RangeResult as RangeResult
    from hmn.results import Read as Read
    from hmn.results import SearchResult as SearchResult
    from hmn.store.indexes import load_index as load_index
    from hmn.store.indexes import save_index as save_index

__version__ = "0.1.0"

__getattr__, __dir__, __all__ = lazy_names(
    "hmn",
    {
        "hmn.errors": [
            "BundleError",
            "CellError",
            "ConfigError",
            "DataError",
            "HMNError",
            "MissingPackageError",
            "NonFiniteError",
            "NotFittedError",
            "ShapeError",
        ],
        "hmn.results": ["RangeResult", "Read", "SearchResult"],
        "hmn.store.indexes": ["load_index", "save_index"],
        "hmn.facts.table": ["Fact", "FactTable"],
        "hmn.facts.questions": ["QuestionSet"],
        "hmn.index.allowed": ["Where"],
        "hmn.index.protocol": ["Clustered", "Index", "Live", "Searcher", "Teachable", "Tunable"],
        "hmn.index.registry": ["make_index"],
        "hmn.index.tuning": ["Tuned", "recall_at_k", "tune"],
        "hmn.index.structures.cluster": ["ClusterIndex"],
        "hmn.index.structures.exact": ["ExactIndex"],
        "hmn.index.structures.faiss": ["FaissIndex"],
        "hmn.index.structures.hierarchy.index": ["HierarchicalIndex"],
        "hmn.index.structures.pca_tree": ["PCATreeIndex"],
        "hmn.index.structures.wta_hash": ["WTAHashIndex"],
        "hmn.index.clustering.reduction": ["Reduction"],
        "hmn.nn.attention.hard": ["HardAttention"],
        "hmn.nn.attention.kmips": ["KMIPSAttention"],
        "hmn.nn.attention.softmax": ["SoftmaxAttention"],
        "hmn.nn.candidates.strategy": ["Candidates", "Strategy"],
        "hmn.nn.clipping": ["clip_grad_norm_"],
        "hmn.nn.hops": ["HopReader", "HopsRead", "QueryUpdate"],
        "hmn.nn.layer.keys": ["clustered_keys"],
        "hmn.nn.layer.layer": ["MemoryLayer", "split_parameters"],
        "hmn.nn.layer.use": ["CellUse"],
        "hmn.nn.loss": ["marginal_nll", "sampled_nll"],
        "hmn.nn.memory.encoded": ["EncodedMemory"],
        "hmn.nn.memory.indexed": ["IndexedMemory"],
        "hmn.nn.memory.operator": ["register_search"],
        "hmn.nn.memory.ring.memory": ["RingMemory"],
        "hmn.nn.memory.stored": ["Memory"],
        "hmn.nn.network": ["MemoryNetwork"],
        "hmn.nn.parts": ["CellEncoder", "CellMemory", "OutputModule", "Reader", "Writer"],
        "hmn.nn.reader": ["KMIPSReader", "SoftmaxReader"],
        "hmn.nn.row_adam": ["RowAdam"],
        "hmn.nn.writing.controller": ["MemoryController"],
        "hmn.nn.writing.cores": ["RecurrentCore", "TransformerCore"],
        "hmn.nn.writing.heads": ["CellReader", "CellWriter"],
        "hmn.nn.writing.memory": ["WrittenMemory"],
        "hmn.qa.answer": ["Answer", "Answers"],
        "hmn.qa.changes.changes": ["FactChange"],
        "hmn.qa.factoid_qa": ["FactoidQA"],
        "hmn.qa.metrics": ["Evaluation"],
    },
)
