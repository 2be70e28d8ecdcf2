"""The demo behind `deploy/demo`: prepares what is missing, starts all parts, and stops them together."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from deploy.preparation import first_admin, prepare
from deploy.stack import Stack, run_until_stopped
from medx_core.errors import MedxError
from medx_core.home import disk_sentence, held_home, make_private, write_privately
from medx_core.logs import log_fault
from medx_core.ports import refuse_taken_port
from medx_core.settings import settings


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the demo, or its smoke test; return the exit status."""
    parser = argparse.ArgumentParser(prog="deploy/demo", description="MedX on this machine, until Ctrl-C.")
    parser.add_argument(
        "--smoke", metavar="OUT.json", help="ask, upload and rate through the real page, write OUT.json, stop"
    )
    given = parser.parse_args(arguments)
    write_privately()
    try:
        return _smoke(Path(given.smoke)) if given.smoke else _run()
    except MedxError as fault:
        print(f"MedX: {fault}", file=sys.stderr)
    except KeyboardInterrupt:
        print("\nInterrupted; run the same command again to go on.", file=sys.stderr)
    except Exception as fault:  # noqa: BLE001 - the outermost door: the traceback goes to the log
        reason = disk_sentence(fault, settings().home) if isinstance(fault, OSError) else ""
        where = "" if reason else _logged_fault(fault)
        print(
            f"MedX: {reason or f'an unexpected fault stopped this; the details are in {where}.'}",
            file=sys.stderr,
        )
    return 1


def _run() -> int:
    chosen = settings()
    make_private(chosen.home)
    with held_home(chosen.home, "deploy/demo"):
        refuse_taken_port(chosen.host, chosen.port)  # before minutes of preparation
        prepare(chosen)
        first_admin(chosen)
        run_until_stopped(Stack(chosen))
    return 0


def _smoke(out: Path) -> int:
    # gradio_client is only needed here, and slow to import.
    from deploy.smoke import run_smoke

    return run_smoke(out)


def _logged_fault(fault: Exception) -> Path:
    file = settings().home / "logs" / "demo.log"
    log_fault(fault, file, "The demo failed.")
    return file


if __name__ == "__main__":
    sys.exit(main())
