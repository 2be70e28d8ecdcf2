"""Makes `.venv` and installs MedX into it: `deploy/demo` what runs, `deploy/test` (`--checks`) the checks as well.

Safe to repeat: finished steps are remembered under `.venv` and skipped, an interrupted step is done again. It runs
before anything is installed, so it uses the standard library alone. `deploy/set-up` has checked Python's version.

PyTorch is installed first and without a hash, because the user may choose its index (CPU or CUDA build). Everything
else must have one of the hashes in the lock; both uv and pip leave an installed PyTorch of the pinned version alone.
"""

import hashlib
import os
import platform
import re
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parent.parent
VENV = CHECKOUT / ".venv"
PYTHON = VENV / "bin" / "python"
LOG = VENV / "set-up.log"
UV = "uv==0.13.9"
RUNTIME_LOCK = "requirements.txt"
CHECKS_LOCK = "requirements-dev.txt"
OLDEST_MACOS = 14  # of PyTorch's wheels for Apple silicon
SAY_EVERY_SECONDS = 4
NEEDED_BYTES = 4_000_000_000


class SetUpFault(Exception):
    """MedX cannot be set up here; the message is one sentence for the user."""


def main(arguments: list[str]) -> int:
    """Set up MedX, with `--checks` also the linters and tests; return the exit status."""
    try:
        set_up([RUNTIME_LOCK, CHECKS_LOCK] if "--checks" in arguments else [RUNTIME_LOCK])
    except SetUpFault as fault:
        sys.stderr.write(f"MedX cannot be set up: {fault}\n")
        return 1
    except KeyboardInterrupt:
        sys.stderr.write("\nSet-up was interrupted; run the same command again to go on.\n")
        return 130
    return 0


def set_up(locks: list[str]) -> None:
    """Do every step that is not done yet.

    Raises:
        SetUpFault: the machine is not supported, the disk is full, or a package cannot be fetched.
    """
    torch = _pinned_torch()
    steps = [("torch", torch, "PyTorch", [torch], os.environ.get("TORCH_INDEX_URL", ""))]
    for lock in locks:
        title = "the pinned packages" if lock == RUNTIME_LOCK else "the checks"
        steps.append((lock, _file_hash(lock), title, ["--no-deps", "--require-hashes", "-r", lock], ""))
    steps.append(("self", _file_hash("pyproject.toml"), "MedX itself", ["--no-deps", "-e", "."], ""))
    python = f"{sys.version_info[:2]}"
    if _done("venv") == python and all(_done(name) == version for name, version, *_ in steps):
        return
    began = time.monotonic()
    _check_machine()
    _check_disk()
    print("Setting up MedX in .venv: about 2 GB; one to four minutes, longer on a slow network.", flush=True)
    _make_venv(python)
    _install_uv()
    for name, version, title, requirements, index in steps:
        if _done(name) != version:
            _install(title, requirements, index)
            _remember(name, version)
    print(f"Set-up took {time.monotonic() - began:.0f} s.", flush=True)


def _pinned_torch() -> str:
    lock = (CHECKOUT / RUNTIME_LOCK).read_text(encoding="utf-8")
    pin = re.search(r"^torch==[\d.]+", lock, re.MULTILINE)
    if pin is None:
        raise SetUpFault(f"{RUNTIME_LOCK} does not pin PyTorch; make it again with deploy/lock.")
    return pin.group()


def _make_venv(python: str) -> None:
    if _done("venv") == python:
        return
    print("  making .venv ...", flush=True)
    done = subprocess.run(
        [sys.executable, "-m", "venv", "--clear", str(VENV)], capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise SetUpFault(
            _reason(done.stdout + done.stderr)
            or "a virtual environment cannot be made; on Debian install the package python3-venv, then run this again."
        )
    _remember("venv", python)


def _install_uv() -> None:
    """Get uv, which installs ten times faster than pip; without it pip does the same work."""
    if _done("uv") == UV:
        return
    done = subprocess.run([str(PYTHON), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", UV],
                          capture_output=True, text=True, check=False)  # fmt: skip
    if done.returncode == 0:
        _remember("uv", UV)
    elif _reason(done.stderr):
        raise SetUpFault(_reason(done.stderr))


def _install(title: str, requirements: list[str], index: str) -> None:
    """Install some requirements, saying every few seconds that the installation still runs.

    Raises:
        SetUpFault: it failed.
    """
    command = [str(PYTHON), "-m", "pip", "install", "--disable-pip-version-check"]
    if _done("uv") == UV:
        # as pip does: where Python writes no bytecode, each start would compile hundreds of modules again
        command = [str(VENV / "bin" / "uv"), "pip", "install", "--compile-bytecode", "--python", str(PYTHON)]
    command += [*(["--index-url", index] if index else []), *requirements]
    print(f"  installing {title} ...", flush=True)
    finished = threading.Event()
    threading.Thread(target=_report_time, args=(title, finished), daemon=True).start()
    try:
        with LOG.open("a", encoding="utf-8") as log:
            start = log.tell()
            environment = _environment()
            code = subprocess.run(
                command, cwd=CHECKOUT, env=environment, stdout=log, stderr=log, check=False
            ).returncode
    finally:
        finished.set()
    if code != 0:
        output = LOG.read_text(encoding="utf-8", errors="replace")[start:]
        raise SetUpFault(
            _reason(output)
            or f"installing {title} failed ({_last_line(output)}); the full output is in {LOG}."
        )


def _report_time(title: str, finished: threading.Event) -> None:
    began = time.monotonic()
    while not finished.wait(SAY_EVERY_SECONDS):
        print(f"  ... still installing {title} ({time.monotonic() - began:.0f} s)", flush=True)


def _environment() -> dict[str, str]:
    """Hand pip's own settings on to uv, which does not read them."""
    environment = dict(os.environ)
    configuration = subprocess.run(
        [str(PYTHON), "-m", "pip", "config", "list"], capture_output=True, text=True, check=False
    ).stdout
    settings = {}
    for line in configuration.splitlines():
        key, _, value = line.partition("=")
        settings[key.split(".")[-1]] = value.strip("'\"")
    for uv_name, pip_name in (
        ("UV_FIND_LINKS", "find-links"),
        ("UV_DEFAULT_INDEX", "index-url"),
        ("SSL_CERT_FILE", "cert"),
    ):
        if settings.get(pip_name):
            environment.setdefault(uv_name, settings[pip_name])
    return environment


def _reason(output: str) -> str:
    """Recognise the two faults a newcomer meets: a full disk and a network that does not answer."""
    lower = output.lower()
    if "no space left" in lower or "errno 28" in lower or "disk quota" in lower:
        return f"the disk is full; free about {NEEDED_BYTES // 10**9} GB at {CHECKOUT} and run this again."
    signs = ("failed to fetch", "connection", "could not connect", "name resolution", "timed out", "dns error",
             "network is unreachable", "max retries", "proxy", "certificate")  # fmt: skip
    if any(sign in lower for sign in signs):
        return "the package index cannot be reached; check the network, or pip's index settings, and run this again."
    return ""


def _check_machine() -> None:
    """Refuse the Macs that PyTorch has no wheel for, before two gigabytes are fetched."""
    if sys.platform != "darwin":
        return
    if platform.machine() != "arm64" or int(platform.mac_ver()[0].split(".")[0] or 0) < OLDEST_MACOS:
        raise SetUpFault(
            f"PyTorch has wheels only for Macs with Apple silicon and macOS {OLDEST_MACOS} or newer; use such a Mac, or Linux."
        )


def _check_disk() -> None:
    free = shutil.disk_usage(CHECKOUT).free
    if not _done(RUNTIME_LOCK) and free < NEEDED_BYTES:
        raise SetUpFault(
            f"{NEEDED_BYTES / 1e9:.0f} GB of free disk are needed at {CHECKOUT} and {free / 1e9:.1f} GB are left."
        )


def _file_hash(name: str) -> str:
    return hashlib.sha256((CHECKOUT / name).read_bytes()).hexdigest()[:16]


def _done(name: str) -> str:
    mark = VENV / f".done-{name}"
    return mark.read_text(encoding="utf-8") if mark.is_file() and PYTHON.exists() else ""


def _remember(name: str, value: str) -> None:
    (VENV / f".done-{name}").write_text(value, encoding="utf-8")


def _last_line(output: str) -> str:
    return (output.strip().splitlines() or ["no reason given"])[-1].strip()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
