"""`medx bench`: how fast MedX is, each bench as a ratio of our figure to what it is held against."""

import os
import resource
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import typer

from medx_core import __version__
from medx_core.cli.outputs import JsonOut, tell, write_json
from medx_core.errors import BadInput
from medx_core.settings import CHECKOUT

REPEATS = 5
# CPU seconds that each command may take; the sum is what `doors` is held against.
DOORS = {"--help": 0.6, "data check": 1.5, "router explain": 6.0}
FIRST_START_SECONDS = 60.0
MEDX = (sys.executable, "-c", "from medx_core.cli.app import main; main()")
SMALL_FILE = (
    "statement,answer\nThe heart pumps blood through the body.,TRUE\nInsulin raises blood glucose.,FALSE\n"
)


@dataclass(frozen=True)
class BenchResult:
    """One bench: `ratio` of `ours` to `theirs`, with its lowest and highest value over the repeats.

    `ours` is the median over the repeats; `parts` has the median of each part of the bench, in the same unit.
    """

    ratio: float
    low: float
    high: float
    ours: float
    theirs: float
    unit: str
    against: str
    parts: Mapping[str, float]


def bench(
    only: Annotated[str, typer.Option(help="Only this bench: doors or first_start.")] = "",
    with_peers: Annotated[
        bool, typer.Option("--with-peers", help="Also run other programs, where a bench has any to run.")
    ] = False,
    long: Annotated[bool, typer.Option("--long", help="Repeat the first start too, five times.")] = False,
    json_out: JsonOut = "",
) -> None:
    """Measure how fast MedX is on this machine, in CPU seconds of the whole process tree."""
    benches: dict[str, Callable[[], BenchResult]] = {
        "doors": measure_doors,
        "first_start": lambda: measure_first_start(REPEATS if long else 1),
    }
    if only and only not in benches:
        raise BadInput(f"There is no bench called {only!r}; there are: {', '.join(benches)}.")
    if with_peers:
        tell("No other program does what these benches measure; they are held against targets.")
    results = {}
    for name in [only] if only else benches:
        tell(f"{name} ...")
        result = benches[name]()
        tell(f"  {_in_words(result)}")
        results[name] = asdict(result)
    write_json({"benches": results, "medx_version": __version__}, json_out)


def measure_doors() -> BenchResult:
    """Measure the commands that people wait for most often, each five times.

    Raises:
        BadInput: a command failed.
    """
    with tempfile.TemporaryDirectory() as scratch:
        file = Path(scratch) / "small.csv"
        file.write_text(SMALL_FILE, encoding="utf-8")
        given = {"data check": [str(file)], "router explain": ["rash after penicillin"]}
        seconds = {
            name: [cpu_seconds([*MEDX, *name.split(), *given.get(name, ())]) for _ in range(REPEATS)]
            for name in DOORS
        }
    parts = {name: statistics.median(values) for name, values in seconds.items()}
    sums = [sum(values) for values in zip(*seconds.values(), strict=True)]
    targets = ", ".join(f"{name} {most:g} s" for name, most in DOORS.items())
    return _result(sums, sum(DOORS.values()), f"the targets {targets}", parts)


def measure_first_start(repeats: int) -> BenchResult:
    """Run `deploy/demo` with an empty MEDX_HOME until it is ready, then stop it; its stopping counts too.

    Raises:
        BadInput: this is no checkout, or the demo did not become ready.
    """
    demo = CHECKOUT / "deploy" / "demo.py"
    if not demo.is_file():
        raise BadInput("The first start is measured in a checkout, and this installation is not one.")
    seconds = []
    for _ in range(repeats):
        with tempfile.TemporaryDirectory() as home:
            given = {"MEDX_HOME": home, "MEDX_PORT": str(_free_port())}
            seconds.append(cpu_seconds([sys.executable, str(demo)], until="MedX is ready", **given))
    return _result(seconds, FIRST_START_SECONDS, f"the target {FIRST_START_SECONDS:g} s", {})


def cpu_seconds(command: Sequence[str], *, until: str = "", **environment: str) -> float:
    """Run a command to its end, or to the line that begins with `until`; return user and system time of its process tree.

    `environment` is added to this process's own.

    Raises:
        BadInput: it failed.
    """
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    last = ""
    with subprocess.Popen(  # noqa: S603 - fixed argument list
        command, env=os.environ | environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        for line in process.stdout or ():
            last = line.strip() or last
            if until and line.startswith(until):
                process.send_signal(signal.SIGINT)
    if process.returncode != 0:
        raise BadInput(f"`{' '.join(command[1:])}` failed: {last}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def _result(seconds: Sequence[float], target: float, against: str, parts: Mapping[str, float]) -> BenchResult:
    ours = statistics.median(seconds)
    return BenchResult(
        ratio=ours / target, low=min(seconds) / target, high=max(seconds) / target, ours=ours, theirs=target,
        unit="CPU seconds", against=against, parts=parts,
    )  # fmt: skip


def _in_words(result: BenchResult) -> str:
    parts = "".join(f"; {name} {seconds:.2f}" for name, seconds in result.parts.items())
    return f"{result.ours:.2f} {result.unit}, {result.ratio:.2f} of {result.against}{parts}"


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
