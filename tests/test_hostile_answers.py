"""Whatever is typed as an answer is refused, or lands in the project as text and nothing else."""

import re
import tempfile
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from tests.combinations import values_of
from tests.conftest import copy_template
from tests.rendered import check_parses, check_text, texts

pytestmark = pytest.mark.usefixtures("fast_copier")

MARK = "Xq7"
"""Part of the product below, which nothing but an evaluated template could have written."""

FRAGMENTS = [
    "{{ 'Xq' ~ (3 + 4) }}",
    "{% for x in [1] %}{{ 'Xq' ~ 7 }}{% endfor %}",
    "{#",
    "#}",
    "${{ github.token }}",
    "$(touch canary)",
    "`touch canary`",
    "; touch canary #",
    "../../canary",
    "/etc/canary",
    "C:\\canary",
    "\\",
    "\\n",
    "'",
    '"',
    '"""',
    "'''",
    "]]>",
    "<script>alert(1)</script>",
    "<!--",
    "[x](javascript:x)",
    "# ",
    "- ",
    ": ",
    "&anchor",
    "*alias",
    "!!python/object/apply:os.system",
    "%",
    "@",
    "|",
    "<x@example.com>",
    "\u00e9",
    "\U00020bb7",
    "\u202e",
    "\x00",
    "\n",
    " ",
    "null",
    "0x1",
]
TEXTS = st.lists(st.sampled_from(FRAGMENTS) | st.text(max_size=8), max_size=6).map("".join)
ADDRESSES = st.tuples(TEXTS, TEXTS, TEXTS).map(
    lambda parts: f"{parts[0]} <{parts[1]}@{parts[2]}.example>"
)
CONNECTIONS = st.tuples(TEXTS, TEXTS, st.integers(0, 70_000), TEXTS).map(
    lambda parts: f"postgresql://{parts[0]}@{parts[1]}:{parts[2]}/{parts[3]}"
)
ENDPOINTS = st.tuples(TEXTS, st.integers(0, 70_000)).map(lambda parts: f"{parts[0]}:{parts[1]}")

QUESTIONS: dict[str, st.SearchStrategy[Any]] = {
    "project_name": TEXTS,
    "project_description": TEXTS,
    "author": TEXTS | ADDRESSES,
    "database": st.sampled_from([str(value) for value in values_of("database")]) | TEXTS,
    "supabase_connection": TEXTS | CONNECTIONS,
    "postgres_connection": TEXTS | CONNECTIONS,
    "redis": st.sampled_from([str(value) for value in values_of("redis")]) | TEXTS,
    "redis_endpoint": TEXTS | ENDPOINTS,
    "time_zone": st.sampled_from(["UTC", "Europe/Berlin"]) | TEXTS,
    "ci": st.sampled_from([str(value) for value in values_of("ci")]) | TEXTS,
    "extensions": st.lists(TEXTS, max_size=2),
}
REFUSAL = re.compile(
    r"^Validation error for question|^Question \"\w+\" is required$|^Invalid choice"
)
"""How Copier begins to say which answer it did not take."""

ON_ONE_LINE = (
    st.lists(
        st.sampled_from(FRAGMENTS)
        | st.text(st.characters(exclude_categories=["C", "Z"]), max_size=8),
        min_size=1,
        max_size=4,
    )
    .map(lambda parts: re.sub(r"[\x00\n\u202e]", "", "".join(parts)).strip()[:60].strip())
    .filter(bool)
)
NAMES = ON_ONE_LINE.map(lambda text: re.sub(r"[<>@]", "", text).strip()).filter(bool)
FREE_TEXTS = {
    "project_name": ON_ONE_LINE,
    "project_description": ON_ONE_LINE,
    "author": NAMES
    | st.tuples(NAMES, NAMES).map(
        lambda parts: f"{parts[0]} <{''.join(parts[1].split())}@example.com>"
    ),
}
"""Texts that have to be taken, whatever they hold."""


@pytest.fixture(scope="module")
def surroundings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("surroundings")


examples = settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@examples
@given(answers=st.fixed_dictionaries({}, optional=FREE_TEXTS))
def test_a_text_on_one_line_is_a_text(
    answered_part: Path, surroundings: Path, answers: dict[str, Any]
) -> None:
    assert outcome(answered_part, surroundings, answers) == ""


@examples
@given(answers=st.fixed_dictionaries({}, optional=QUESTIONS))
def test_anything_else_is_refused_or_a_text(
    answered_part: Path, surroundings: Path, answers: dict[str, Any]
) -> None:
    refusal = outcome(answered_part, surroundings, answers)
    assert refusal == "" or REFUSAL.search(refusal)


def outcome(template: Path, surroundings: Path, answers: dict[str, Any]) -> str:
    """Render with these answers: with which words they were refused, or none.

    Raises:
        AssertionError: Something is not right in the project, or was written outside of it.
    """
    folder = Path(tempfile.mkdtemp(dir=surroundings))
    project = folder / "a" / "project"
    refusal = ""
    try:
        copy_template(template, project, **answers)
    except ValueError as error:
        refusal = str(error)
        assert not any(project.glob("*"))
    else:
        contents = dict(texts(project))
        check_parses(contents)
        check_text(contents)
        check_is_text(project, answers)
    beside = [path for path in folder.rglob("*") if not path.is_relative_to(project)]
    assert beside == ([folder / "a"] if (folder / "a").exists() else [])
    assert not Path("canary").exists()
    return refusal


def check_is_text(project: Path, answers: dict[str, Any]) -> None:
    """Raise AssertionError where an answer became something else than the text that was typed."""
    document = tomllib.loads((project / "pyproject.toml").read_text(encoding="utf-8"))
    remembered = yaml.safe_load((project / ".copier-answers.yml").read_text(encoding="utf-8"))
    for name in ("project_name", "project_description"):
        if name in answers:
            assert document["tool"]["service"][name] == answers[name]
    assert {name: remembered[name] for name in answers if name in remembered} == {
        name: value for name, value in answers.items() if name in remembered
    }
    if answers.get("author"):
        [author] = document["project"]["authors"]
        whole = author["name"] + (f" <{author['email']}>" if "email" in author else "")
        assert " ".join(whole.split()) == " ".join(answers["author"].split())
    for path in project.rglob("*"):
        if path.is_file() and path.suffix in {".md", ".toml", ".yml", ".example"}:
            assert MARK not in path.read_text(encoding="utf-8"), f"{path.name} was evaluated"
    for page in ("README.md", "SECURITY.md", "AGENTS.md"):
        tokens = MarkdownIt().parse((project / page).read_text(encoding="utf-8"))
        inner = [child for token in tokens for child in token.children or ()]
        assert not [each for each in (*tokens, *inner) if each.type.startswith("html_")], page
    if "project_name" in answers:
        [heading] = [token for token in tokens_of(project / "README.md") if token.level == 1][:1]
        said = "".join(child.content for child in heading.children or ())
        assert said == answers["project_name"]


def tokens_of(path: Path) -> list[Any]:
    return MarkdownIt().parse(path.read_text(encoding="utf-8"))
