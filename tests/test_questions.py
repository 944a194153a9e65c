"""Questions: what is asked, what is refused and with which words, what is remembered."""

import re
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
import tzdata
import yaml
from jinja2 import Environment, nodes
from markdown_it import MarkdownIt

from tests.combinations import (
    HOSTILE_TEXTS,
    SUPABASE,
    catalogue,
    configuration,
    questions,
    values_of,
)
from tests.conftest import Render, copy_template

SESSION = SUPABASE.format(port=5432)
TRANSACTION = SUPABASE.format(port=6543)
REDIS_CLOUD = "redis-12345.c1.eu-central-1-1.ec2.redns.redis-cloud.com:12345"


def service_table(project: Path) -> dict[str, Any]:
    document = tomllib.loads((project / "pyproject.toml").read_text(encoding="utf-8"))
    table: dict[str, Any] = document["tool"]["service"]
    return table


def answers_of(project: Path) -> dict[str, Any]:
    text = (project / ".copier-answers.yml").read_text(encoding="utf-8")
    answers: dict[str, Any] = yaml.safe_load(text)
    return answers


@pytest.fixture
def render(render_fast: Render) -> Render:
    """What is asked does not depend on where the template comes from."""
    return render_fast


REMEDY = "Choose|Clone|Keep|Leave|Paste|Remove|Type|Use"
FITS = re.compile(rf"^Validation error for question '\w+': ({REMEDY}) [^:;,(]+[:;,.(]")
"""What to do, in a clause that ends before the line does."""


def shown(message: str, columns: int = 80) -> str:
    """What the dialogue shows of a refusal: one line, cut at the width of the terminal."""
    message = message[message.index("Validation error") :]
    return message[:columns]


class TestRefusals:
    """A bad answer renders nothing, and the message says what is wrong and what would be right."""

    @pytest.mark.parametrize(
        ("answers", "words"),
        [
            ({"project_name": ""}, ["Type a name", "Acme Orders"]),
            ({"project_name": "   "}, ["Type a name"]),
            ({"project_name": " Orders"}, ["Remove the outer spaces"]),
            ({"project_name": "Acme\nOrders"}, ["line break", "one line"]),
            ({"project_name": "Acme\x1b[31mOrders"}, ["control character"]),
            ({"project_name": "Acme\u202esredrO"}, ["invisible"]),
            ({"project_name": "A" * 61}, ["at most 60 characters", "has 61"]),
            ({"project_description": ""}, ["Type a sentence"]),
            ({"project_description": "one\r\ntwo"}, ["line break", "one line"]),
            ({"project_description": "d" * 201}, ["at most 200 characters", "has 201"]),
            ({"author": "Ada <ada>"}, ["Ada <ada@example.com>"]),
            ({"author": "<ada@example.com>"}, ["a name followed by an e-mail address"]),
            ({"author": "Ada\nLovelace"}, ["line break"]),
            ({"database": "mysql"}, ["mysql", "supabase", "postgresql", "none"]),
            ({"redis": "valkey"}, ["valkey", "redis_cloud"]),
            ({"ci": "jenkins"}, ["jenkins", "github", "gitlab"]),
            ({"python_minimum": "3.10"}, ["3.10", "3.11"]),
            ({"time_zone": "berlin"}, ["Use Europe/Berlin:"]),
            ({"time_zone": "new york"}, ["Use America/New_York:"]),
            ({"time_zone": "CEST"}, ["no time zone", "UTC"]),
            ({"time_zone": "UTC\nUTC"}, ["no time zone"]),
            ({"extensions": ["nonesuch"]}, ["nonesuch", *catalogue()]),
            ({"extensions": "[nonesuch]"}, ["nonesuch", *catalogue()]),
            ({"kit_tests": "flase"}, ["Choose true or false", '"flase"']),
            ({"projct_name": "Acme"}, ["Remove projct_name", "project_name"]),
        ],
        ids=str,
    )
    def test_is_refused_with_the_reason(
        self, render: Render, tmp_path: Path, answers: dict[str, Any], words: list[str]
    ) -> None:
        self._is_refused(render, tmp_path, answers, words)

    @pytest.mark.parametrize(
        ("connection", "words"),
        [
            (SESSION.replace("[YOUR-PASSWORD]", "s3cret"), ["real password", "POSTGRES_PASSWORD"]),
            (SESSION.replace("[YOUR-PASSWORD]", "a@b:c/d"), ["real password"]),
            (SESSION.replace("[YOUR-PASSWORD]", "[s3cret]"), ["real password"]),
            (
                "postgresql://postgres:[YOUR-PASSWORD]@db.abcdefghijklmnopqrst.supabase.co:5432/postgres",
                ["direct connection", "IPv6 only", "Session pooler", ".pooler.supabase.com"],
            ),
            (TRANSACTION + "?pgbouncer=true", ["Remove ? and what follows"]),
            (
                SESSION.replace("5432", "5433"),
                ["5432 (session mode) or 6543", "dashboard shows it"],
            ),
            (SESSION.replace("postgres.abc", "abc"), ["20 letters"]),
            (SESSION.removesuffix("/postgres"), ["a database must follow"]),
            ("aws-0-eu-central-1.pooler.supabase.com", ["postgres.<project>"]),
            (
                "https://abcdefghijklmnopqrst.supabase.co",
                ["the pooler's string, which looks like postgresql://"],
            ),
            (SESSION + "\nx", ["as the dashboard shows it"]),
            ("", ["looks like postgresql://postgres."]),
        ],
    )
    def test_supabase_connection(
        self, render: Render, tmp_path: Path, connection: str, words: list[str]
    ) -> None:
        answers = {"database": "supabase", "supabase_connection": connection}
        self._is_refused(render, tmp_path, answers, words)

    @pytest.mark.parametrize(
        ("connection", "words"),
        [
            (
                "postgresql://shop:s3cret@db.example.com/orders",
                ["real password", "Leave the password out"],
            ),
            ("postgresql://shop@db.example.com/orders?password=x", ["Remove ? and what follows"]),
            ("postgresql://shop@db.example.com:0/orders", ["no port 0", "5432"]),
            ("postgresql://shop@db.example.com:65536/orders", ["no port 65536"]),
            ("postgresql://shop@db.example.com", ["such as postgresql://"]),
            ("mysql://shop@db.example.com/orders", ["such as postgresql://"]),
            ('postgresql://shop@db.example.com/or"ders', ["plain letters"]),
            (f"postgresql://shop@db.example.com/{'d' * 64}", ["at most 63 characters"]),
            ("postgresql://{{ x }}@db.example.com/orders", ["plain letters"]),
        ],
    )
    def test_postgres_connection(
        self, render: Render, tmp_path: Path, connection: str, words: list[str]
    ) -> None:
        answers = {"database": "postgresql", "postgres_connection": connection}
        self._is_refused(render, tmp_path, answers, words)

    @pytest.mark.parametrize(
        ("answers", "words"),
        [
            (
                {"redis_endpoint": f"redis://default:s3cret@{REDIS_CLOUD}"},
                ["REDIS_PASSWORD", "host:port"],
            ),
            ({"redis_endpoint": f"default:s3cret@{REDIS_CLOUD}"}, ["REDIS_PASSWORD"]),
            ({"redis_endpoint": f"redis://{REDIS_CLOUD}"}, ["without redis://"]),
            ({"redis_endpoint": "redis.example.com"}, ["the port", "redis-12345"]),
            ({"redis_endpoint": "redis.example.com:port"}, ["the port"]),
            ({"redis_endpoint": "redis.example.com:99999"}, ["no port 99999", "1 to 65535"]),
            ({"redis_endpoint": "re dis:1"}, ["the port"]),
            ({"redis_endpoint": ""}, ["the port"]),
            ({"redis_endpoint": REDIS_CLOUD, "redis_connection_limit": 11}, ["may hold 12", "30"]),
            ({"redis_endpoint": REDIS_CLOUD, "redis_tls": "flase"}, ["Choose true or", '"flase"']),
            ({"redis_endpoint": REDIS_CLOUD, "redis_connection_limit": -1}, ["too few"]),
            (
                {"redis_endpoint": REDIS_CLOUD, "redis_connection_limit": 10**7},
                ["no Redis allows 10000000"],
            ),
        ],
        ids=str,
    )
    def test_redis(
        self, render: Render, tmp_path: Path, answers: dict[str, Any], words: list[str]
    ) -> None:
        self._is_refused(render, tmp_path, {"redis": "redis_cloud", **answers}, words)

    @pytest.mark.parametrize("database", ["supabase", "postgresql"])
    def test_a_database_needs_its_connection(
        self, render: Render, tmp_path: Path, database: str
    ) -> None:
        self._is_refused(render, tmp_path, {"database": database}, ["_connection", "required"])

    @pytest.mark.parametrize("name", questions())
    def test_every_refusal_begins_with_what_to_do(self, name: str) -> None:
        """Also those that no case above gives: each branch of the validator."""
        validator = Environment(autoescape=True).parse(questions()[name].get("validator") or "")
        for output in (each for each in validator.find_all(nodes.Output) if _begins(each)):
            text = " ".join("".join(map(_text, output.nodes)).split())
            message = f"Validation error for question '{name}': {text}"
            assert FITS.search(shown(message)), f"cut in the dialogue: {shown(message)}"

    @staticmethod
    def _is_refused(
        render: Render, tmp_path: Path, answers: dict[str, Any], words: list[str]
    ) -> None:
        with pytest.raises(ValueError, match=r".") as refusal:
            render(**answers)
        message = " ".join(str(refusal.value).split())
        assert [word for word in words if word not in message] == [], message
        assert "s3cret" not in message
        if "Validation error for question" in message:
            assert FITS.search(shown(message)), f"cut in the dialogue: {shown(message)}"
        assert not (tmp_path / "project").exists()


def _begins(output: nodes.Output) -> bool:
    """Whether it is text of its own, neither white space nor a part of `{% set %}`."""
    return any(isinstance(each, nodes.TemplateData) and each.data.strip() for each in output.nodes)


def _text(node: nodes.Expr) -> str:
    return node.data if isinstance(node, nodes.TemplateData) else "a value"


class TestWhatFollows:
    """Parts of the settings that follow from what was pasted."""

    @pytest.mark.parametrize(("connection", "port"), [(SESSION, 5432), (TRANSACTION, 6543)])
    def test_supabase_mode_follows_from_the_port(
        self, render: Render, connection: str, port: int
    ) -> None:
        table = service_table(render(database="supabase", supabase_connection=connection))
        assert table["postgres_port"] == port
        assert table["postgres_host"] == "aws-0-eu-central-1.pooler.supabase.com"
        assert table["postgres_user"] == "postgres.abcdefghijklmnopqrst"
        assert table["postgres_db"] == "postgres"

    @pytest.mark.parametrize("password", ["", ":[YOUR-PASSWORD]"])
    def test_dedicated_pooler_of_supabase(self, render: Render, password: str) -> None:
        # https://supabase.com/docs/guides/database/connecting-to-postgres#dedicated-pooler
        host = "db.abcdefghijklmnopqrst.supabase.co"
        connection = f"postgresql://postgres{password}@{host}:6543/postgres"
        table = service_table(render(database="supabase", supabase_connection=connection))
        assert (table["postgres_host"], table["postgres_port"]) == (host, 6543)
        assert table["postgres_user"] == "postgres"

    @pytest.mark.parametrize(
        "connection",
        [
            f"  {SESSION} ",
            SESSION.replace("[YOUR-PASSWORD]", ""),
            SESSION.replace(":[YOUR-PASSWORD]", ""),
            SESSION.replace("[YOUR-PASSWORD]", "[your-password]"),
            SESSION.replace("postgresql://", "postgres://"),
        ],
    )
    def test_what_the_dashboard_shows_is_taken_as_it_is(
        self, render: Render, connection: str
    ) -> None:
        table = service_table(render(database="supabase", supabase_connection=connection))
        assert table["postgres_user"] == "postgres.abcdefghijklmnopqrst"

    def test_port_of_another_postgres_may_be_left_out(self, render: Render) -> None:
        connection = "postgres://shop@db.example.com/orders"
        table = service_table(render(database="postgresql", postgres_connection=connection))
        assert table["postgres_port"] == 5432
        assert table["postgres_db"] == "orders"

    def test_redis_cloud(self, render: Render) -> None:
        project = render(redis="redis_cloud", redis_endpoint=f" {REDIS_CLOUD} ", redis_tls=True)
        table = service_table(project)
        assert f"{table['redis_host']}:{table['redis_port']}" == REDIS_CLOUD
        assert table["redis_tls"] is True
        assert table["redis_connection_limit"] == 30

    @pytest.mark.parametrize(
        ("name", "slug"),
        [
            ("My Service", "my-service"),
            ("3D-Druck!", "3d-druck"),
            ("class", "class"),
            ("日本語", "service"),
            ("Flower", "flower-service"),
            ("SQLAlchemy", "sqlalchemy-service"),
        ],
    )
    def test_package_name(self, render: Render, name: str, slug: str) -> None:
        project = render(project_name=name)
        document = tomllib.loads((project / "pyproject.toml").read_text(encoding="utf-8"))
        assert document["project"]["name"] == slug

    @pytest.mark.parametrize(
        ("author", "expected"),
        [
            ("", None),
            ("Ada Lovelace", [{"name": "Ada Lovelace"}]),
            ("Ada <ada@example.com>", [{"name": "Ada", "email": "ada@example.com"}]),
            ("𠮷田太郎", [{"name": "𠮷田太郎"}]),
            ("🧀 <ada@example.com>", [{"name": "🧀", "email": "ada@example.com"}]),
            ('J. "Q" #1 \\', [{"name": 'J. "Q" #1 \\'}]),
        ],
    )
    def test_author(self, render: Render, author: str, expected: list[dict[str, str]]) -> None:
        project = render(author=author)
        document = tomllib.loads((project / "pyproject.toml").read_text(encoding="utf-8"))
        assert document["project"].get("authors") == expected

    @pytest.mark.parametrize(
        "text",
        [
            *("- a list", "1. a list", "12) a list", "+ a list", "* a list", "---", "___", "==="),
            *("# a title", "> a quote", "~~~", "```", "| a | b |", "<b>x</b>", "[a](b)", "a & b"),
            *("1.5 times as fast", "-1 is a number", "𠮷田太郎", "&amp;", "\\# x", "a_b_c"),
        ],
    )
    def test_a_description_is_a_paragraph_in_the_readme(self, render: Render, text: str) -> None:
        readme = (render(project_description=text) / "README.md").read_text(encoding="utf-8")
        heading, paragraph, *_ = MarkdownIt("commonmark").parse(readme)[0:6:3]
        assert (heading.type, paragraph.type) == ("heading_open", "paragraph_open")
        inline = MarkdownIt("commonmark").parse(readme)[4]
        said = "".join(child.content for child in inline.children or ())
        assert said == text
        assert {child.type for child in inline.children or ()} <= {"text", "text_special"}


class TestMemory:
    """What `.copier-answers.yml` holds."""

    @pytest.mark.parametrize("text", HOSTILE_TEXTS)
    def test_texts_come_back_as_they_were_given(self, render: Render, text: str) -> None:
        project = render(project_name=text, project_description=text)
        table = service_table(project)
        assert table["project_name"] == table["project_description"] == text
        assert answers_of(project)["project_name"] == text

    def test_defaults_are_remembered_and_nothing_else(self, render: Render) -> None:
        remembered = answers_of(render())
        asked = {"project_name", "project_description", "author", "database", "redis"}
        asked |= {"time_zone", "ci", "python_minimum"}
        if catalogue():
            asked |= {"extensions"}
        assert set(remembered) == asked | {"kit_tests", "_src_path"}
        assert remembered["kit_tests"] is False

    def test_every_question_that_was_asked_is_remembered(self, render: Render) -> None:
        given = {
            "database": "supabase",
            "supabase_connection": TRANSACTION,
            "redis": "redis_cloud",
            "redis_endpoint": REDIS_CLOUD,
            "redis_tls": True,
            "redis_connection_limit": 256,
            "time_zone": "Europe/Lisbon",
        }
        remembered = answers_of(render(**given))
        assert {name: remembered[name] for name in given} == given

    def test_the_secret_placeholder_is_all_that_is_stored_of_a_password(
        self, render: Render
    ) -> None:
        project = render(database="supabase", supabase_connection=SESSION)
        text = (project / ".copier-answers.yml").read_text(encoding="utf-8")
        assert "[YOUR-PASSWORD]" in text


class TestTheQuestionsThemselves:
    """Rules for copier.yml that later changes have to keep."""

    def test_every_question_says_what_it_wants(self) -> None:
        assert [name for name, details in questions().items() if not details.get("help")] == []

    def test_every_free_text_has_a_validator(self) -> None:
        free = [
            name
            for name, details in questions().items()
            if details["type"] != "bool" and "choices" not in details
        ]
        assert [name for name in free if not questions()[name].get("validator")] == []

    def test_every_question_has_values_to_be_tested_with(self) -> None:
        assert [name for name in questions() if not values_of(name)] == []

    def test_known_answers_are_the_questions(self) -> None:
        assert set(questions()) <= set(configuration()["answers_known"]["default"])

    def test_few_questions_are_asked_of_who_has_no_account(self, render: Render) -> None:
        asked = set(questions()) & set(answers_of(render()))
        assert len(asked) <= 9

    def test_secrets_are_never_asked_for(self) -> None:
        assert [name for name in questions() if "password" in name or "secret" in name] == []
        assert [name for name, details in questions().items() if details.get("secret")] == []

    def test_nothing_needs_trust(self) -> None:
        assert not {"_tasks", "_jinja_extensions"} & set(configuration())

    def test_listed_time_zones_exist(self, template: Path) -> None:
        zones = Path(tzdata.__file__).with_name("zones")
        known = set(zones.read_text(encoding="utf-8").split())
        listed = (template / "hooks" / "time_zones.txt").read_text(encoding="utf-8").split()
        assert [name for name in listed if name not in known] == []
        assert {"UTC", "Europe/Berlin", "America/New_York", "Asia/Kolkata"} <= set(listed)


def test_checkout_without_symbolic_links_is_refused_with_the_remedy(
    template_without_git: Path, tmp_path: Path
) -> None:
    """Git for Windows writes a link as a small file that holds the link's target."""
    broken = tmp_path / "broken"
    subprocess.run(["cp", "-R", template_without_git, broken], check=True)
    link = broken / "template" / "app" / "extensions"
    target = str(link.readlink())
    link.unlink()
    link.write_text(target, encoding="utf-8")
    with pytest.raises(ValueError, match=r"symbolic link.*core\.symlinks true"):
        copy_template(broken, tmp_path / "project")
    assert not (tmp_path / "project").exists()
