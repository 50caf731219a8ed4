"""One memory over several machines: each rank holds a shard of the cells.

Each name is imported at its first use.
"""

from typing import TYPE_CHECKING

from hmn.lazy import lazy_names

if TYPE_CHECKING:
    from hmn.distributed.collectives import Ranks as Ranks
    from hmn.distributed.replicas import keep_shards as keep_shards
    from hmn.distributed.replicas import sum_gradients as sum_gradients
    from hmn.distributed.saving.checkpoint import ShardedCheckpoint as ShardedCheckpoint
    from hmn.distributed.sharded_index import ShardedIndex as ShardedIndex
    from hmn.distributed.sharded_memory import ShardedMemory as ShardedMemory

__getattr__, __dir__, __all__ = lazy_names(
    "hmn.distributed",
    {
        "hmn.distributed.saving.checkpoint": ["ShardedCheckpoint"],
        "hmn.distributed.collectives": ["Ranks"],
        "hmn.distributed.replicas": ["keep_shards", "sum_gradients"],
        "hmn.distributed.sharded_index": ["ShardedIndex"],
        "hmn.distributed.sharded_memory": ["ShardedMemory"],
    },
)
