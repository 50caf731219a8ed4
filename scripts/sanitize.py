"""Run tests with search kernels that stop at memory errors and undefined behaviour.

``python -m scripts.sanitize`` compiles the kernels with AddressSanitizer and UndefinedBehaviorSanitizer, in a
folder of their own, and runs pytest with them; its arguments are those of pytest. Without a compiler that has
both, it says so and does nothing.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from tempfile import TemporaryDirectory

ROOT = Path(__file__).parents[1]
BUILD = ROOT / "build" / "sanitize"
KERNELS = "HMN_SANITIZED_KERNELS"
"""Environment variable with the file of the compiled kernels, for the plugin below."""
RUNTIMES = ["libasan.so", "libubsan.so", "libstdc++.so"]
"""Libraries to load before Python; without the last, AddressSanitizer stops at the first C++ exception."""
OPTIONS = {
    "ASAN_OPTIONS": "detect_leaks=0:abort_on_error=1",  # Python does not free everything at its end
    "UBSAN_OPTIONS": "print_stacktrace=1:abort_on_error=1",
    "OMP_NUM_THREADS": "1",  # tests of the kernels take two threads all the same
    "OMP_WAIT_POLICY": "passive",
}


def runtimes(compiler: str) -> list[str] | None:
    """Files of the sanitizers' libraries, or None if this compiler has none."""
    files = []
    for name in RUNTIMES:
        asked = [compiler, f"-print-file-name={name}"]
        answer = subprocess.run(asked, capture_output=True, text=True, check=False).stdout.strip()
        if not Path(answer).is_absolute() or not Path(answer).exists():
            return None
        files.append(str(Path(answer).resolve()))
    return files


def build() -> Path:
    """Compile the kernels; returns their file."""
    with TemporaryDirectory() as folder:
        command = [
            sys.executable,
            "-m",
            "pip",
            "wheel",
            "--quiet",
            "--disable-pip-version-check",
            "--no-deps",
        ]
        settings = [f"-Cbuild-dir={BUILD}", "-Ccmake.define.HMN_SANITIZE=ON", "-Cinstall.strip=false"]
        needed = {**os.environ, "HMN_NEED_KERNELS": "1"}
        subprocess.run([*command, "-w", folder, *settings, str(ROOT)], check=True, env=needed)
        (wheel,) = Path(folder).glob("*.whl")
        with zipfile.ZipFile(wheel) as archive:
            (name,) = (name for name in archive.namelist() if "/_kernels." in name)
            return Path(archive.extract(name, BUILD / "kernels"))


def pytest_load_initial_conftests() -> None:
    """As a plugin of pytest, load these kernels in place of those installed, before hmn is imported."""
    name = "hmn._native._kernels"
    spec = importlib.util.spec_from_file_location(name, os.environ[KERNELS])
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    sys.modules[name] = module


def pytest_report_header() -> str:
    """Say which kernels run, and that they are the right ones."""
    from hmn._native import backend

    assert backend.compiled is sys.modules["hmn._native._kernels"]
    return f"kernels: {backend.compiled.__file__}"


def main(arguments: list[str]) -> int:
    """Compile, then test; returns the exit code of pytest."""
    compiler = shutil.which(os.environ.get("CXX", "c++"))
    libraries = runtimes(compiler) if compiler else None
    if libraries is None:
        print(f"skipped: {compiler or 'no C++ compiler'} without the libraries {', '.join(RUNTIMES)}")
        return 0
    environment = {**os.environ, **OPTIONS, "LD_PRELOAD": ":".join(libraries), KERNELS: str(build())}
    # the sanitizers write to the standard error of the process
    command = [
        sys.executable,
        "-m",
        "pytest",
        "--capture=sys",
        "-p",
        "scripts.sanitize",
        "-m",
        "not slow",
        *arguments,
    ]
    return subprocess.run(command, cwd=ROOT, env=environment, check=False).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
