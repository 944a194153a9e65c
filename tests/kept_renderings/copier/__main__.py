"""`copier copy` for the template's scripts: each release is rendered once for the same answers.

`fast_copier` puts it before Copier's own command, which it calls.
"""

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

REPOSITORY = Path(__file__).parents[3]
KEPT = "KEPT_RENDERINGS"
"""Variable of the environment: a folder for them."""


def main() -> None:
    """Take a rendering from the last time, or have Copier make it."""
    *options, template, destination = sys.argv[1:]
    release, answers = (options[options.index(name) + 1] for name in ("--vcs-ref", "--data-file"))
    asked = ["git", "-C", template, "rev-parse", f"{release}^{{commit}}"]
    commit = subprocess.run(asked, check=True, capture_output=True, text=True).stdout
    # Copier's own lines say where an earlier copy came from.
    lines = Path(answers).read_text(encoding="utf-8").splitlines()
    known = [commit, *(line for line in lines if not line.startswith("_"))]
    made = Path(os.environ[KEPT], hashlib.sha256("\n".join(known).encode()).hexdigest())
    if not made.exists():
        unfinished = Path(tempfile.mkdtemp(dir=made.parent), made.name)
        command = [sys.executable, "-m", "tests.fast_copier", *options, template, str(unfinished)]
        environment = os.environ | {"PYTHONPATH": str(REPOSITORY)}
        subprocess.run(command, check=True, env=environment)
        if not made.exists():  # another thread may have made it meanwhile
            unfinished.rename(made)
    shutil.copytree(made, destination, symlinks=True)


if __name__ == "__main__":
    main()
