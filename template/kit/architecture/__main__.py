"""Print the violations of all rules, one a line: `python -m kit.architecture`."""

import sys

from kit.architecture import RULES

for rule in RULES:
    sys.stdout.writelines(f"{finding}\n" for finding in rule())
