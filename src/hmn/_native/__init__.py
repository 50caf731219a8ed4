"""The hot loops of search, as compiled CPU kernels and in PyTorch.

``kernels/`` holds the C++, ``fallback/`` the same in PyTorch; ``backend`` chooses between them.
"""

from hmn._native.allowed.few import count_allowed as count_allowed
from hmn._native.allowed.few import score_few as score_few
from hmn._native.allowed.few import share_allowed as share_allowed
from hmn._native.backend import kernels as kernels
from hmn._native.buckets import list_rows as list_rows
from hmn._native.buckets import most_frequent as most_frequent
from hmn._native.lists import disorder as disorder
from hmn._native.lists import enter as enter
from hmn._native.lists import means as means
from hmn._native.lists import settle as settle
from hmn._native.lists import take_out as take_out
from hmn._native.lists import write_bounds as write_bounds
from hmn._native.lists import write_entries as write_entries
from hmn._native.lists import write_screen as write_screen
from hmn._native.search import best_of as best_of
from hmn._native.search import filled as filled
from hmn._native.search import replaced as replaced
from hmn._native.search import screened as screened
from hmn._native.search import screening_bits as screening_bits
from hmn._native.search import screens as screens
from hmn._native.search import search_levels as search_levels
