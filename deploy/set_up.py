"""Builds `.venv` with everything MedX needs; shared by `deploy/demo` and `deploy/test`.

Safe to repeat: what is done is remembered under `.venv` and passed over; what was interrupted is done again. It runs
before anything is installed, so it uses the standard library alone. `deploy/set-up` has checked Python's version.
"""

import hashlib
import os
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
TORCH = "torch==2.13.0"
NEEDED_BYTES = 4_000_000_000


class SetUpFault(Exception):
    """One sentence about why MedX cannot be set up here."""


def main() -> int:
    """Set up; return the exit status."""
    try:
        set_up()
    except SetUpFault as fault:
        sys.stderr.write(f"MedX cannot be set up: {fault}\n")
        return 1
    except KeyboardInterrupt:
        sys.stderr.write("\nSet-up was interrupted; run the same command again to go on.\n")
        return 130
    return 0


def set_up() -> None:
    """Do whatever is not done yet.

    Raises:
        SetUpFault: the disk is full, or a package cannot be fetched.
    """
    state = _state()
    if _done("all") == state:
        return
    began = time.monotonic()
    _check_disk()
    print("Setting up MedX in .venv: about 2 GB; one to four minutes, longer on a slow network.", flush=True)
    _make_venv()
    _install_uv()
    _step("torch", TORCH, "PyTorch", _install_command(TORCH, index=os.environ.get("TORCH_INDEX_URL", "")))
    _step(
        "lock",
        _file_hash("requirements.txt"),
        "the pinned packages",
        _install_command("-r", "requirements.txt"),
    )
    _step("self", _file_hash("pyproject.toml"), "MedX itself", _install_command("--no-deps", "-e", "."))
    _remember("all", state)
    print(f"Set-up took {time.monotonic() - began:.0f} s.", flush=True)


def _make_venv() -> None:
    if PYTHON.exists() and _done("venv"):
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
    _remember("venv", "made")


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


def _install_command(*what: str, index: str = "") -> list[str]:
    if _done("uv") == UV:
        command = [str(VENV / "bin" / "uv"), "pip", "install", "--python", str(PYTHON)]
    else:
        command = [str(PYTHON), "-m", "pip", "install", "--disable-pip-version-check"]
    return [*command, *(["--index-url", index] if index else []), *what]


def _step(name: str, wanted: str, title: str, command: list[str]) -> None:
    """Run one installation unless it was done before, saying every few seconds that it still runs.

    Raises:
        SetUpFault: it failed.
    """
    if _done(name) == wanted:
        return
    print(f"  installing {title} ...", flush=True)
    finished = threading.Event()
    ticker = threading.Thread(target=_tick, args=(title, finished), daemon=True)
    ticker.start()
    try:
        with LOG.open("a", encoding="utf-8") as log:
            start = log.tell()
            code = subprocess.run(
                command, cwd=CHECKOUT, env=_environment(), stdout=log, stderr=log, check=False
            ).returncode
    finally:
        finished.set()
    if code != 0:
        said = LOG.read_text(encoding="utf-8", errors="replace")[start:]
        raise SetUpFault(
            _reason(said) or f"installing {title} failed ({_last_line(said)}); the whole story is in {LOG}."
        )
    _remember(name, wanted)


def _tick(title: str, finished: threading.Event) -> None:
    began = time.monotonic()
    while not finished.wait(10):
        print(f"  ... still installing {title} ({time.monotonic() - began:.0f} s)", flush=True)


def _environment() -> dict[str, str]:
    """Hand pip's own settings on to uv, which does not read them."""
    found = dict(os.environ)
    said = subprocess.run(
        [str(PYTHON), "-m", "pip", "config", "list"], capture_output=True, text=True, check=False
    ).stdout
    settings = {}
    for line in said.splitlines():
        key, _, value = line.partition("=")
        settings[key.split(".")[-1]] = value.strip("'\"")
    for ours, theirs in (
        ("UV_FIND_LINKS", "find-links"),
        ("UV_DEFAULT_INDEX", "index-url"),
        ("SSL_CERT_FILE", "cert"),
    ):
        if settings.get(theirs):
            found.setdefault(ours, settings[theirs])
    return found


def _reason(said: str) -> str:
    """Recognise the two faults a newcomer meets: a full disk and a network that does not answer."""
    lower = said.lower()
    if "no space left" in lower or "errno 28" in lower or "disk quota" in lower:
        return f"the disk is full; free about {NEEDED_BYTES // 10**9} GB at {CHECKOUT} and run this again."
    signs = ("failed to fetch", "connection", "could not connect", "name resolution", "timed out", "dns error",
             "network is unreachable", "max retries", "proxy", "certificate")  # fmt: skip
    if any(sign in lower for sign in signs):
        return "the package index cannot be reached; check the network, or pip's index settings, and run this again."
    return ""


def _check_disk() -> None:
    free = shutil.disk_usage(CHECKOUT).free
    if not _done("lock") and free < NEEDED_BYTES:
        raise SetUpFault(
            f"{NEEDED_BYTES / 1e9:.0f} GB of free disk are needed at {CHECKOUT} and {free / 1e9:.1f} GB are left."
        )


def _state() -> str:
    return f"{_file_hash('requirements.txt')} {_file_hash('pyproject.toml')} {TORCH} {sys.version_info[:2]}"


def _file_hash(name: str) -> str:
    return hashlib.sha256((CHECKOUT / name).read_bytes()).hexdigest()[:16]


def _done(name: str) -> str:
    mark = VENV / f".done-{name}"
    return mark.read_text(encoding="utf-8") if mark.is_file() and PYTHON.exists() else ""


def _remember(name: str, value: str) -> None:
    (VENV / f".done-{name}").write_text(value, encoding="utf-8")


def _last_line(said: str) -> str:
    return (said.strip().splitlines() or ["no reason given"])[-1].strip()


if __name__ == "__main__":
    sys.exit(main())
