"""Checks of settings, code, database and Redis; each finding has its remedy.

`make doctor` ends with status 1 when there is a problem to fix, and with 0 for warnings alone. With
`--production` it asks what production requires, wherever it runs, and starts no server.
"""

import argparse
import json
import os
import sys
from collections.abc import Sequence
from contextlib import redirect_stdout
from pathlib import Path

from kit.commands import run_command


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the checks; returns the exit status."""
    options = _parser().parse_args(arguments)
    if options.env_file:
        os.environ["DOTENV_FILE"] = str(options.env_file.resolve())
    from kit.settings import Settings, raw_value  # noqa: PLC0415 (they read that file)

    # Before the imports below, which read the settings: wrong ones end every other command.
    Settings.collected = []
    environment = None
    if options.production:
        environment = raw_value("ENVIRONMENT") or Settings.model_fields["ENVIRONMENT"].default
        if environment not in ("staging", "production"):
            os.environ["ENVIRONMENT"] = "production"
    from kit.doctor import CHECKS, examine, summary_of, text_of  # noqa: PLC0415
    from kit.process import start_local_services  # noqa: PLC0415

    skip = [each.strip() for each in options.skip.split(",") if each.strip()]
    if unknown := {*skip} - CHECKS.keys():
        _parser().error(
            f"--skip: no {', '.join(sorted(unknown))}, expected {', '.join(sorted(CHECKS))}"
        )
    with redirect_stdout(sys.stderr):  # what the service's modules print is no part of the report
        if not options.production:
            start_local_services()
        results = examine(production=options.production, skip=skip, environment=environment)
    summary = summary_of(results, production=options.production)
    print(json.dumps(summary, indent=2) if options.json else text_of(results, summary))
    return 1 if summary["problems"] or (options.strict and summary["warnings"]) else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m kit.commands.doctor", description=__doc__)
    add = parser.add_argument
    add("--production", action="store_true", help="ask what production requires")
    add("--strict", action="store_true", help="end with 1 for warnings too")
    add("--json", action="store_true", help="print one JSON document, for programs")
    add("--skip", default="", metavar="ID,ID", help="checks to leave out")
    add("--env-file", type=_file, metavar="FILE", help="read this file in place of .env")
    return parser


def _file(name: str) -> Path:
    if not Path(name).is_file():
        raise argparse.ArgumentTypeError(f"there is no file {name}")
    return Path(name)


if __name__ == "__main__":
    run_command(main)
