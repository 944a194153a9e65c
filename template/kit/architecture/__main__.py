"""`python -m kit.architecture` prints what breaks a rule, one line each."""

import sys

from kit.architecture import RULES

for rule in RULES:
    sys.stdout.writelines(f"{finding}\n" for finding in rule())
