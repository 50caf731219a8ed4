"""Try an installed hmn: imports, a search, an attention layer and the command line.

``python check_install.py avx512`` fails unless searches run on ``avx512``; ``built`` accepts any compiled
kernels, and ``twin`` none. Run it outside the repository, so that the installed package is imported.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path


def check_import() -> None:
    """Import the installed package, which loads no torch."""
    import hmn

    assert Path(sys.prefix) in Path(hmn.__file__).parents, (
        f"{hmn.__file__} was imported: not the installed one"
    )
    assert "torch" not in sys.modules, "import hmn loads torch"


def check_kernels(wanted: str) -> None:
    """Compare the kernels that run with those wanted."""
    from hmn._native import kernels

    got = kernels()
    assert got != "twin" if wanted == "built" else got == wanted, f"kernels are {got}, expected {wanted}"


def check_search() -> None:
    """Search clusters for keys that exact search finds, and read from a memory."""
    import torch

    import hmn

    generator = torch.Generator().manual_seed(0)
    keys = torch.randn(2_000, 16, generator=generator)
    index = hmn.make_index("cluster:num_clusters=20,num_probes=20")
    index.build(keys)
    cell = index.search(keys[:50], 3).cell
    exact = (keys[:50] @ keys.T).topk(3, dim=1).indices
    found = sum(len(set(a) & set(b)) for a, b in zip(cell.tolist(), exact.tolist(), strict=True))
    assert found >= 140, f"{found} of 150 best cells were found, expected 140"
    memory = hmn.Memory(keys, trainable=True)
    read = hmn.KMIPSAttention(memory, k=4)(keys[:5])
    assert read.value is not None and read.value.shape == (5, 16)
    read.value.sum().backward()


def check_command() -> None:
    """Run ``hmn --help``."""
    command = Path(sys.executable).with_name("hmn")
    ran = subprocess.run([command, "--help"], capture_output=True, text=True, check=True)
    assert "demo" in ran.stdout, f"hmn --help prints {ran.stdout!r}"


if __name__ == "__main__":
    check_import()
    check_kernels(sys.argv[1])
    check_search()
    check_command()
    print(f"Python {sys.version.split()[0]}: hmn works on {sys.argv[1]} kernels")
