"""Memory networks: memories with their index, readers, attention layers, losses.

Each name is imported at its first use.
"""

from typing import TYPE_CHECKING

from hmn.lazy import lazy_names

if TYPE_CHECKING:
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

__getattr__, __dir__, __all__ = lazy_names(
    "hmn.nn",
    {
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
    },
)
