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
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from medx_core import __version__
from medx_core.cli.outputs import JsonOut, tell, write_json
from medx_core.errors import BadInput
from medx_core.settings import CHECKOUT, settings

if TYPE_CHECKING:
    from medx_core.models.loading import LoadedModel

REPEATS = 5
STATEMENTS = 8
ARMS = {"one arm": 1, "both arms": 2, "three arms": 3}
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
    only: Annotated[str, typer.Option(help="Only this bench: doors, first_start or both_arms.")] = "",
    with_peers: Annotated[
        bool, typer.Option("--with-peers", help="Also run other programs, where a bench has any to run.")
    ] = False,
    long: Annotated[bool, typer.Option("--long", help="Repeat the first start too, five times.")] = False,
    json_out: JsonOut = "",
) -> None:
    """Measure how fast MedX is on this machine: commands, the first start, and both arms of a verdict."""
    benches: dict[str, Callable[[], BenchResult]] = {
        "doors": measure_doors,
        "first_start": lambda: measure_first_start(REPEATS if long else 1),
        "both_arms": measure_both_arms,
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


def measure_both_arms() -> BenchResult:
    """Measure a verdict in one, two and three arms on the model of the settings, steered at the penultimate layer.

    Each way is measured on statements one at a time, and on all of them in one micro-batch, in turn within each repeat.
    `parts` are seconds per statement.

    Raises:
        ModelUnavailable: the model or the device is not there.
    """
    from medx_core.assembly import build_model

    return both_arms_of(build_model(settings()))


def both_arms_of(model: "LoadedModel", repeats: int = REPEATS) -> BenchResult:
    """Measure both arms of verdicts on one model (see `measure_both_arms`)."""
    import torch

    from medx_core.data.bundled_texts import bundled_statements
    from medx_core.models.devices import seconds_used
    from medx_core.models.prefix_cache import SharedPrefix
    from medx_core.models.scoring import AnswerHead
    from medx_core.prompts import STATEMENT_PROMPT
    from medx_core.steering.hooks import ConstantShift, SteeringPlan, SteeringStep
    from medx_core.steering.layers import hidden_size, penultimate_layer
    from medx_core.traces.resuming import SteeredRuns

    prefix = SharedPrefix(model, STATEMENT_PROMPT)
    head, runs = AnswerHead(prefix), SteeredRuns(prefix)
    prompts = [prefix.encoded(statement.statement) for statement in bundled_statements()[:STATEMENTS]]
    shift = ConstantShift(torch.ones(1, hidden_size(model.network)))
    steered = SteeringPlan((SteeringStep(penultimate_layer(model.network), shift),))

    def seconds(batches: Sequence[Sequence[list[int]]], arms: int) -> float:
        # One arm is the steered one, as people ask for it; the second is the unsteered one, the third another vector.
        plans = [steered, SteeringPlan(), steered][:arms]
        before = seconds_used(model.placement.device)
        for batch in batches:
            rows = list(product(batch, plans))
            head.logit_differences(runs.of_rows([prompt for prompt, _ in rows], [plan for _, plan in rows]))
        return (seconds_used(model.placement.device) - before) / len(prompts)

    together = {"": [[prompt] for prompt in prompts], " in a micro-batch": [prompts]}
    seconds(
        together[""], len(ARMS)
    )  # the model's pages are read, and whether arms may share a pass is found out
    ways = list(product(ARMS, together))
    measured = [
        {arms + where: seconds(together[where], ARMS[arms]) for arms, where in ways} for _ in range(repeats)
    ]
    parts = {name: statistics.median(repeat[name] for repeat in measured) for name in measured[0]}
    ratios = [repeat["both arms"] / repeat["one arm"] for repeat in measured]
    return BenchResult(
        ratio=statistics.median(ratios), low=min(ratios), high=max(ratios),
        ours=parts["both arms"], theirs=parts["one arm"],
        unit="CPU seconds" if model.placement.device.type == "cpu" else "seconds",
        against="one arm of the same verdict", parts=parts,
    )  # fmt: skip


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
    parts = "".join(f"; {name} {seconds:.3g}" for name, seconds in result.parts.items())
    return f"{result.ours:.3g} {result.unit}, {result.ratio:.2f} of {result.against}{parts}"


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
