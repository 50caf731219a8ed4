"""Search for the largest inner products: structures by name, and what they promise.

Each name is imported at its first use.
"""

from typing import TYPE_CHECKING

from hmn.lazy import lazy_names

if TYPE_CHECKING:
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

__getattr__, __dir__, __all__ = lazy_names(
    "hmn.index",
    {
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
    },
)
