"""How fast a rendered service is, as ratios to floors that are measured in the same run.

`python -m bench` measures everything, `python -m bench --row read` one part; `nox -s bench` does it
in an environment of its own. A module for each part says what is measured and against what.
"""
