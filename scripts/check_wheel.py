"""Build the source archive and, from it, the wheel; install the wheel elsewhere and use it.

``python -m scripts.check_wheel`` does this twice: with the C++ compiler, and with none, where a wheel without
kernels must come out. Only build tools are downloaded: hmn's dependencies are those of this interpreter.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
import venv
import zipfile
from pathlib import Path
from tempfile import TemporaryDirectory

ROOT = Path(__file__).parents[1]

IN_ARCHIVE = {"CHANGELOG.md", "CMakeLists.txt", "LICENSE", "PKG-INFO", "README.md", "pyproject.toml", "src"}
"""Everything at the top of the source archive."""

LARGEST_ARCHIVE = 1 << 20
"""Bytes that the source archive may have."""

WITHOUT_COMPILER = {"CC": "/bin/false", "CXX": "/bin/false"}
"""Environment variables that make CMake find no compiler."""


def run(*command: str | Path, **environment: str) -> None:
    """Run a command; print its output and stop if it fails."""
    environment = {**os.environ, **environment}
    ran = subprocess.run(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment
    )
    if ran.returncode:
        sys.exit(f"{' '.join(map(str, command))} failed:\n{ran.stdout}")


def new_environment(folder: Path, *packages: str) -> Path:
    """Make a virtual environment with packages in it; returns its interpreter."""
    venv.create(folder, with_pip=True)
    python = folder / "bin" / "python"
    if packages:
        run(python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *packages)
    return python


def build(python: Path, folder: Path, **environment: str) -> tuple[Path, Path]:
    """Build the source archive and, from it, the wheel."""
    run(python, "-m", "build", "--outdir", folder, ROOT, **environment)
    (archive,), (wheel,) = folder.glob("*.tar.gz"), folder.glob("*.whl")
    return archive, wheel


def check_archive(path: Path) -> None:
    """Refuse a source archive with files that building a wheel does not need."""
    with tarfile.open(path) as archive:
        names = archive.getnames()
    top = {name.split("/")[1] for name in names if "/" in name}
    assert top == IN_ARCHIVE, f"{path.name} holds {sorted(top)}, expected {sorted(IN_ARCHIVE)}"
    built = [name for name in names if name.endswith((".so", ".pyc"))]
    assert not built, f"{path.name} holds built files: {built}"
    size = path.stat().st_size
    assert size <= LARGEST_ARCHIVE, f"{path.name} has {size} bytes, expected {LARGEST_ARCHIVE} at most"


def check_wheel(path: Path, *, compiled: bool) -> None:
    """Compare a wheel's tags and files with what this interpreter must get."""
    own = f"cp{sys.version_info.major}{sys.version_info.minor}"
    tags = [own, own] if sys.version_info < (3, 12) else ["cp312", "abi3"]
    begins = f"hmn/_native/_kernels.{'abi3.so' if 'abi3' in tags else own.replace('cp', 'cpython-')}"
    if not compiled:
        tags = ["py3", "none"]
    assert path.stem.split("-")[2:4] == tags, f"{path.name}: expected tags {tags}"
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
    kernels = [name for name in names if name.startswith("hmn/_native/_kernels.")]
    assert len(kernels) == compiled, f"{path.name} holds kernels {kernels}"
    assert all(name.startswith(begins) for name in kernels), f"{kernels}: expected {begins}…"
    rest = [name for name in names if name.endswith((".cpp", ".hpp")) or name.startswith("tests")]
    assert not rest, f"{path.name} holds {rest}: expected no sources and no tests"
    assert "hmn/py.typed" in names, f"{path.name} has no py.typed"


def check_installed(wheel: Path, folder: Path, kernels: str) -> None:
    """Install a wheel in a fresh environment and run ``check_install.py`` outside the repository."""
    python = new_environment(folder)
    run(python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps", wheel)
    (site,) = folder.glob("lib/python3.*/site-packages")
    shared = [path for path in sys.path if path.endswith(("site-packages", "dist-packages"))]
    (site / "shared.pth").write_text("\n".join(shared) + "\n")
    script = ROOT / "scripts" / "check_install.py"
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    subprocess.run(
        [python, "-W", "ignore:hmn was installed", script, kernels], cwd=folder, env=environment, check=True
    )


def main() -> None:
    """Build and check both wheels in a temporary folder."""
    with TemporaryDirectory() as name:
        folder = Path(name)
        builder = new_environment(folder / "builder", "build")
        archive, wheel = build(builder, folder / "dist")
        print(f"{archive.name} {archive.stat().st_size:,} bytes, {wheel.name} {wheel.stat().st_size:,} bytes")
        check_archive(archive)
        check_wheel(wheel, compiled=True)
        check_installed(wheel, folder / "installed", "built")
        _, wheel = build(builder, folder / "plain", **WITHOUT_COMPILER)
        print(f"{wheel.name} {wheel.stat().st_size:,} bytes, built without a compiler")
        check_wheel(wheel, compiled=False)
        check_installed(wheel, folder / "installed-plain", "twin")


if __name__ == "__main__":
    main()
