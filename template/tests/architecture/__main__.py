"""`python -m tests.architecture` prints what breaks a rule, one line each."""

import sys

from tests.architecture import RULES

for rule in RULES:
    sys.stdout.writelines(f"{finding}\n" for finding in rule())
