import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import certifi
import pytest
from pydantic import AliasChoices, BaseModel, Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

from app.core.config import Settings, StartupError
from kit.settings import _base as settings_base

PRODUCTION = {
    "ENVIRONMENT": "production",
    "SECRET_KEY": "k3yThatNobodyCouldGuess-0123456789",
    "DATABASE_URL": "postgresql://u:p@db.example.com/app",
    "REDIS_URL": "rediss://default:p@redis.example.com:6379/0",
    "CORS_ORIGINS": "https://app.example.com",
}


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty project folder and an environment that sets nothing."""
    for cls in (Settings,):
        for field in cls.model_fields:
            monkeypatch.delenv(settings_base.setting_name(cls, field), raising=False)
    monkeypatch.setattr(settings_base, "BASE_DIR", tmp_path)
    monkeypatch.setitem(Settings.model_config, "env_file", tmp_path / ".env")
    settings_base.service_table.cache_clear()
    settings_base.dotenv_table.cache_clear()
    yield tmp_path
    settings_base.service_table.cache_clear()
    settings_base.dotenv_table.cache_clear()


def set_table(project: Path, text: str) -> None:
    (project / "pyproject.toml").write_text(f"[tool.service]\n{text}\n", encoding="utf-8")


def set_environment(monkeypatch: pytest.MonkeyPatch, **values: str) -> None:
    for name, value in values.items():
        monkeypatch.setenv(name, value)


class TestWhatIsRefused:
    @pytest.mark.parametrize(
        ("missing", "expected"),
        [
            ("SECRET_KEY", "SECRET_KEY is not set"),
            ("DATABASE_URL", "no database is configured"),
            ("REDIS_URL", "no Redis is configured"),
            ("CORS_ORIGINS", "CORS_ORIGINS lists no origins"),
        ],
    )
    def test_missing_outside_local(
        self, project: Path, monkeypatch: pytest.MonkeyPatch, missing: str, expected: str
    ) -> None:
        set_environment(monkeypatch, **{k: v for k, v in PRODUCTION.items() if k != missing})

        with pytest.raises(StartupError, match=expected) as caught:
            Settings.load()

        assert len(caught.value.message.splitlines()) == 1

    @pytest.mark.parametrize(
        ("name", "value", "expected"),
        [
            ("SECRET_KEY", "changethis", "fewer than 32 characters"),
            ("DATABASE_URL", "postgresql://u@db.example.com/app", "POSTGRES_PASSWORD is not set"),
        ],
    )
    def test_weak_outside_local(
        self,
        project: Path,
        monkeypatch: pytest.MonkeyPatch,
        name: str,
        value: str,
        expected: str,
    ) -> None:
        set_environment(monkeypatch, **{**PRODUCTION, name: value})

        with pytest.raises(StartupError, match=expected):
            Settings.load()

    @pytest.mark.parametrize(
        ("values", "expected"),
        [
            ({"API_PORT": "many"}, r"API_PORT \(set in the environment\)"),
            ({"ENVIRONMENT": "prod"}, "'local', 'staging' or 'production'"),
            ({"CELERY_TIMEZONE": "Mars/Base"}, "no time zone, expected an IANA name"),
            ({"POSTGRES_CA_FILE": "absent.crt"}, "there is no file"),
            ({"POSTGRES_PASSWORD": "p"}, "POSTGRES_HOST is not; set both"),
            ({"REDIS_PASSWORD": "p"}, "REDIS_HOST is not; set both"),
            ({"CELERY_TASK_MAX_SECONDS": "3600"}, "run twice"),
            ({"POSTGRES_SSLMODE": "prefer"}, r"POSTGRES_SSLMODE \(set in the environment\)"),
            ({"POSTGRES_SSLMODE": "verify-full"}, "POSTGRES_CA_FILE is not set"),
            ({"API_ROOT_PATH": "/sh op"}, "expected a path of letters"),
            (
                {"REDIS_CA_FILE": certifi.where(), "REDIS_TLS_VERIFY": "no"},
                "remove REDIS_TLS_VERIFY",
            ),
            ({"PORT": "http"}, r"PORT \(set in the environment\): .*valid integer"),
        ],
    )
    def test_wrong_value(
        self,
        project: Path,
        monkeypatch: pytest.MonkeyPatch,
        values: dict[str, str],
        expected: str,
    ) -> None:
        set_environment(monkeypatch, **values)

        with pytest.raises(StartupError, match=expected):
            Settings.load()

    def test_secret_in_the_committed_table(self, project: Path) -> None:
        set_table(project, 'postgres_password = "hunter2"')

        with pytest.raises(StartupError, match="Remove it there and set POSTGRES_PASSWORD in"):
            Settings.load()

    def test_error_names_no_secret(self, project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        set_environment(monkeypatch, **{**PRODUCTION, "SECRET_KEY": "hunter2"})

        with pytest.raises(StartupError) as caught:
            Settings.load()

        assert "hunter2" not in caught.value.message

    def test_unknown_names_are_reported(self, project: Path) -> None:
        set_table(project, 'postgres_hots = "db"')
        (project / ".env").write_text("REDIS_PASWORD=x\nAPI_PORT=1\n")

        findings = settings_base.unknown_settings()

        assert len(findings) == 2
        assert "REDIS_PASWORD is set in .env" in findings[0]
        assert "Did you mean REDIS_PASSWORD?" in findings[0]
        assert "Did you mean POSTGRES_HOST?" in findings[1]

    def test_names_that_a_library_reads_are_known(
        self, project: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(Settings, "foreign_prefixes", ("OTEL_",))
        (project / ".env").write_text("OTEL_SERVICE_NAME=x\nOTHER_NAME=x\n")

        [finding] = settings_base.unknown_settings()

        assert "OTHER_NAME is set in .env" in finding

    def test_a_certificate_below_the_root_is_found_from_any_folder(
        self,
        project: Path,
        monkeypatch: pytest.MonkeyPatch,
        tmp_path_factory: pytest.TempPathFactory,
    ) -> None:
        (project / "prod-ca.crt").write_text("")
        monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))

        loaded = Settings(POSTGRES_CA_FILE="prod-ca.crt")

        assert project / "prod-ca.crt" == loaded.POSTGRES_CA_FILE

    def test_nothing_is_reported_twice(
        self, project: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        urls = {"DATABASE_URL": "mysql://u:p@h/db", "REDIS_URL": "redis://h/first"}
        set_environment(monkeypatch, **{**PRODUCTION, **urls, "SECRET_KEY": ""})

        with pytest.raises(StartupError) as caught:
            Settings.load()

        lines = [line.split()[0] for line in caught.value.message.splitlines()]
        assert lines == ["DATABASE_URL", "REDIS_URL", "SECRET_KEY"]

    @pytest.mark.parametrize("value", ["proxy.internal", "10.0.0.1/8"])
    def test_a_proxy_that_is_no_address(
        self, project: Path, monkeypatch: pytest.MonkeyPatch, value: str
    ) -> None:
        monkeypatch.setenv("FORWARDED_ALLOW_IPS", f"127.0.0.1,{value}")

        with pytest.raises(StartupError, match=r"expected as 10\.0\.0\.5 or 10\.0\.0\.0/8"):
            Settings.load()


# Name in ALLOW_UNSAFE, what is set in production, and a part of the remedy.
UNSAFE = [
    ("redis-without-tls", {"REDIS_URL": "redis://default:p@redis.example.com"}, "REDIS_TLS=true"),
    ("redis-without-tls", {"REDIS_URL": "redis://default:p@10.0.0.7"}, "REDIS_TLS=true"),
    ("redis-without-password", {"REDIS_URL": "rediss://redis.example.com"}, "Set REDIS_PASSWORD"),
    (
        "database-without-tls",
        {"DATABASE_URL": "postgresql://u:p@db.example.com/app?sslmode=disable"},
        "Remove sslmode=disable",
    ),
    ("database-without-tls", {"POSTGRES_SSLMODE": "disable"}, "POSTGRES_SSLMODE"),
    ("weak-secrets", {"SECRET_KEY": "a" * 32}, "Set SECRET_KEY to a random text"),
    ("weak-secrets", {"SECRET_KEY": "changethis" * 4}, "Set SECRET_KEY to a random text"),
    ("weak-secrets", {"FLOWER_PASSWORD": "x"}, "Set FLOWER_PASSWORD to a random text"),
    ("any-cors-origin", {"CORS_ORIGINS": "*"}, "List the origins"),
    ("any-cors-origin", {"CORS_ORIGINS": "https://a.example.com,null"}, "instead of null"),
    ("any-cors-origin", {"CORS_ORIGINS": "https://*"}, "instead of https://*"),
    ("any-proxy", {"FORWARDED_ALLOW_IPS": "*"}, "Name the proxy's network"),
    ("any-proxy", {"FORWARDED_ALLOW_IPS": "127.0.0.1,::/0"}, "instead of ::/0"),
    ("weak-login-throttle", {"ADMIN_LOGIN_ATTEMPTS": "1000000"}, "Lower ADMIN_LOGIN_ATTEMPTS"),
    ("weak-login-throttle", {"ADMIN_LOGIN_WINDOW": "1"}, "raise ADMIN_LOGIN_WINDOW"),
    ("long-admin-sessions", {"ADMIN_SESSION_SECONDS": "946080000"}, "(30 days) or less"),
]
EMBEDDED = {"DATABASE_URL": "", "REDIS_URL": "", "ENVIRONMENT": ""}


@pytest.mark.parametrize(("name", "values", "remedy"), UNSAFE)
class TestUnsafe:
    """Settings that open a service to strangers."""

    def test_is_refused_in_production_with_its_remedy(
        self,
        project: Path,
        monkeypatch: pytest.MonkeyPatch,
        name: str,
        values: dict[str, str],
        remedy: str,
    ) -> None:
        set_environment(monkeypatch, **PRODUCTION | values)

        with pytest.raises(StartupError) as caught:
            Settings.load()

        [message] = caught.value.message.splitlines()
        assert remedy in message
        assert message.endswith(f"add {name} to ALLOW_UNSAFE.")

    def test_is_allowed_by_its_name(
        self,
        project: Path,
        monkeypatch: pytest.MonkeyPatch,
        name: str,
        values: dict[str, str],
        remedy: str,
    ) -> None:
        set_environment(monkeypatch, **PRODUCTION | values, ALLOW_UNSAFE=f"other,{name}")

        assert list(Settings.load().unsafe) == [name]

    def test_is_allowed_in_local(
        self,
        project: Path,
        monkeypatch: pytest.MonkeyPatch,
        name: str,
        values: dict[str, str],
        remedy: str,
    ) -> None:
        set_environment(monkeypatch, **PRODUCTION | values | {"ENVIRONMENT": "local"})

        assert Settings.load().is_local


def test_all_that_is_unsafe_is_told_at_once(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for _, values, _ in UNSAFE:
        set_environment(monkeypatch, **PRODUCTION | values)
    set_environment(monkeypatch, **{k: v for _, values, _ in UNSAFE for k, v in values.items()})

    with pytest.raises(StartupError) as caught:
        Settings.load()

    for name in {name for name, _, _ in UNSAFE} - {"redis-without-tls"}:
        assert f"add {name} to" in caught.value.message


def test_servers_of_this_machine_need_no_tls(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    servers = {"DATABASE_URL": "postgresql://u:p@127.0.0.2/a", "REDIS_URL": "redis://localhost"}
    set_environment(monkeypatch, **PRODUCTION | servers)

    assert Settings.load().unsafe == {}


class TestForgottenEnvironment:
    """An API of which nobody has said that it is in production."""

    @pytest.mark.parametrize(
        ("values", "name"),
        [
            ({"API_HOST": "0.0.0.0"}, "local-on-network"),  # noqa: S104
            ({"API_HOST": "::"}, "local-on-network"),
            ({"API_HOST": "192.168.1.5"}, "local-on-network"),
            ({"DATABASE_URL": PRODUCTION["DATABASE_URL"]}, "local-with-remote-servers"),
            ({"REDIS_URL": PRODUCTION["REDIS_URL"]}, "local-with-remote-servers"),
        ],
    )
    def test_is_refused_unless_it_is_meant(
        self, project: Path, monkeypatch: pytest.MonkeyPatch, values: dict[str, str], name: str
    ) -> None:
        set_environment(monkeypatch, **EMBEDDED | values)
        loaded = Settings.load()

        with pytest.raises(StartupError, match="^Set ENVIRONMENT=production") as caught:
            loaded.refuse_open_local()

        assert f"add {name} to ALLOW_UNSAFE" in caught.value.message
        loaded.model_copy(update={"ALLOW_UNSAFE": [name]}).refuse_open_local()

    def test_both_are_told_at_once(self, project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        set_environment(
            monkeypatch,
            **EMBEDDED | {"DATABASE_URL": PRODUCTION["DATABASE_URL"], "API_HOST": "::"},
        )

        with pytest.raises(StartupError) as caught:
            Settings.load().refuse_open_local()

        assert len(caught.value.message.splitlines()) == 2

    @pytest.mark.parametrize(
        "values",
        [
            {},
            {"DATABASE_URL": "postgresql://u:p@127.0.0.1/a", "REDIS_URL": "redis://[::1]"},
            {"DATABASE_URL": "postgresql:///a?host=/var/run/postgresql"},
        ],
    )
    def test_a_developers_machine_serves_itself(
        self, project: Path, monkeypatch: pytest.MonkeyPatch, values: dict[str, str]
    ) -> None:
        set_environment(monkeypatch, **EMBEDDED | values)
        Settings.load().refuse_open_local()

    def test_the_development_command_may_use_another_database(
        self, project: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        set_environment(monkeypatch, **EMBEDDED | {"DATABASE_URL": PRODUCTION["DATABASE_URL"]})
        loaded = Settings.load()
        loaded.refuse_open_local(is_development=True)
        assert loaded.remote_servers == ["PostgreSQL"]

    def test_production_serves_all(self, project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        set_environment(monkeypatch, **PRODUCTION, API_HOST="::")
        Settings.load().refuse_open_local()


class TestPlatforms:
    """Variables that platforms set by themselves."""

    def test_port(self, project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        # https://devcenter.heroku.com/articles/runtime-principles#web-servers
        set_environment(monkeypatch, **PRODUCTION, PORT="5000")
        set_table(project, "api_port = 8001")

        loaded = Settings.load()

        assert (loaded.API_HOST, loaded.API_PORT) == ("0.0.0.0", 5000)  # noqa: S104

    @pytest.mark.parametrize("place", ["environment", ".env"])
    def test_api_port_is_the_more_specific(
        self, project: Path, monkeypatch: pytest.MonkeyPatch, place: str
    ) -> None:
        monkeypatch.setenv("PORT", "3000")
        if place == ".env":
            (project / ".env").write_text("API_PORT=9000\n")
        else:
            monkeypatch.setenv("API_PORT", "9000")

        assert Settings.load().API_PORT == 9000

    def test_port_opens_no_developers_machine(
        self, project: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        set_environment(monkeypatch, PORT="3000")

        assert Settings.load().API_HOST == "127.0.0.1"

    def test_addresses_of_kubernetes_services(
        self, project: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        # https://kubernetes.io/docs/concepts/services-networking/service/#environment-variables
        set_environment(
            monkeypatch,
            API_PORT="tcp://10.0.0.11:8000",
            API_PORT_8000_TCP="tcp://10.0.0.11:8000",
            API_SERVICE_HOST="10.0.0.11",
            REDIS_PORT="tcp://10.0.0.12:6379",
            FLOWER_PORT="udp://[fd00::1]:5555",
        )
        (project / ".env").write_text("REDIS_PORT=6380\n")

        loaded = Settings.load()

        assert (loaded.API_PORT, loaded.REDIS_PORT, loaded.FLOWER_PORT) == (8000, 6380, 5555)
        assert settings_base.where_set("REDIS_PORT") == "set in .env"

    def test_a_url_whose_pooler_is_named(
        self, project: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("DATABASE_URL", "postgresql://u:p@db.example.com/app?pgbouncer=true")
        assert Settings.load().pooler_mode == "transaction"

        monkeypatch.setenv("POSTGRES_POOLER", "session")
        assert Settings.load().pooler_mode == "session"


class Smtp(BaseModel):
    HOST: str = "localhost"
    PORTS: list[int] = []
    PASSWORD: SecretStr | None = None


class TestOwners:
    """Fields of an owner's own, of every kind."""

    @pytest.fixture
    def owners(self) -> type[Settings]:
        class OwnersSettings(Settings):
            SMTP: Smtp = Smtp()
            TAGS: list[str] = []
            SIZES: set[int] | None = None
            PAIR: tuple[str, ...] = ()
            PRICES: dict[str, int] = {}
            TOKEN: str = Field("", validation_alias=AliasChoices("SHOP_TOKEN", "OLD_TOKEN"))

        return OwnersSettings

    def test_lists_with_commas_or_as_json(
        self, project: Path, monkeypatch: pytest.MonkeyPatch, owners: Any
    ) -> None:
        set_environment(monkeypatch, TAGS="a, b,", PAIR='["a,b"]', PRICES='{"a": 1}')
        set_table(project, 'sizes = "5,6"')
        (project / ".env").write_text("SMTP__PORTS=25,465\nOLD_TOKEN=t\n")

        loaded = owners.load()

        assert (["a", "b"], {5, 6}, ("a,b",)) == (loaded.TAGS, loaded.SIZES, loaded.PAIR)
        assert (loaded.PRICES, loaded.SMTP.PORTS, loaded.TOKEN) == ({"a": 1}, [25, 465], "t")

    def test_the_table_has_every_name_and_whole_models(
        self, project: Path, owners: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        set_table(project, 'old_token = "t"\nTAGS = "a,b"\nsmtp = { host = "h", PORTS = [25] }')
        set_environment(monkeypatch, SMTP__HOST="mail")

        loaded = owners.load()

        assert (loaded.TOKEN, loaded.TAGS) == ("t", ["a", "b"])
        assert (loaded.SMTP.HOST, loaded.SMTP.PORTS) == ("mail", [25])

    @pytest.mark.parametrize("line", ['smtp = { password = "x" }', 'smtp__password = "x"'])
    def test_a_secret_in_a_model_is_refused_in_the_table(
        self, project: Path, owners: Any, line: str
    ) -> None:
        set_table(project, line)
        with pytest.raises(StartupError, match="Remove it there and set SMTP__PASSWORD in"):
            owners.load()

    def test_one_value_is_a_list(
        self, project: Path, monkeypatch: pytest.MonkeyPatch, owners: Any
    ) -> None:
        set_environment(monkeypatch, TAGS="7", SIZES="7")

        assert (["7"], {7}) == (owners.load().TAGS, owners.load().SIZES)

    @pytest.mark.parametrize(
        ("value", "expected"),
        [
            ("SIZES=5,many", r"^SIZES \(set in \.env\): .*valid integer"),
            ("SMTP=mail", r"^SMTP \(set in \.env\): .*valid dictionary"),
            ("PRICES='{a: 1}'", r"^PRICES \(set in \.env\): .*valid dictionary"),
            ("SMTP__PORTS=x", r"^SMTP__PORTS \(set in \.env\): .*valid integer"),
        ],
    )
    def test_a_wrong_value_is_one_line(
        self, project: Path, owners: Any, value: str, expected: str
    ) -> None:
        (project / ".env").write_text(f"{value}\n")

        with pytest.raises(StartupError, match=expected) as caught:
            owners.load()

        assert len(caught.value.message.splitlines()) == 1

    def test_a_required_one_is_reported_with_all_others(
        self, project: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        class RequiredSettings(Settings):
            WAREHOUSE_URL: str

        set_environment(monkeypatch, ENVIRONMENT="production", CORS_ORIGINS="none")

        with pytest.raises(StartupError) as caught:
            RequiredSettings.load()

        names = [line.split()[0] for line in caught.value.message.splitlines()]
        assert names == ["WAREHOUSE_URL", "SECRET_KEY", "no", "no"]

    def test_no_name_that_is_read_is_called_unknown(self, project: Path, owners: object) -> None:
        class PaymentSettings(BaseSettings):
            model_config = SettingsConfigDict(env_prefix="payment_", env_nested_delimiter="__")

            key: str = ""
            retry: dict[str, int] = {}

        (project / ".env").write_text(
            "SMTP__HOST=h\nOLD_TOKEN=t\nPAYMENT_KEY=k\nPAYMENT_RETRY__TIMES=3\nPAYMENT_KEI=k\n"
        )

        [finding] = settings_base.unknown_settings()

        assert "PAYMENT_KEI is set in .env, but no setting has that name" in finding
        assert PaymentSettings.__subclasses__() == []


class TestPrecedence:
    def test_environment_over_dotenv_over_table_over_default(
        self, project: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        assert Settings.load().API_PORT == 8000
        set_table(project, "api_port = 8001")
        settings_base.service_table.cache_clear()
        assert Settings.load().API_PORT == 8001
        (project / ".env").write_text("API_PORT=8002\n")
        assert Settings.load().API_PORT == 8002
        monkeypatch.setenv("API_PORT", "8003")
        assert Settings.load().API_PORT == 8003

    def test_blank_is_unset(self, project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        set_table(project, 'project_name = ""\npostgres_host = ""')
        (project / ".env").write_text("POSTGRES_PORT=\n")
        monkeypatch.setenv("API_PORT", "")

        loaded = Settings.load()

        assert (loaded.API_PORT, loaded.POSTGRES_PORT) == (8000, 5432)
        assert (loaded.PROJECT_NAME, loaded.POSTGRES_HOST) == ("Service", None)

    def test_lists_are_separated_by_commas(
        self, project: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("CORS_ORIGINS", "https://a.example, https://b.example,")

        assert Settings.load().CORS_ORIGINS == ["https://a.example", "https://b.example"]

    def test_a_url_is_used_whole(self, project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        set_table(project, 'postgres_host = "other"\npostgres_port = 6543')
        monkeypatch.setenv("DATABASE_URL", "postgres://u:p%40@db.example.com/app?sslmode=disable")

        loaded = Settings.load()

        assert loaded.DATABASE_URL == "postgresql+asyncpg://u:p%40@db.example.com:5432/app"
        assert loaded.SYNC_DATABASE_URL == "postgresql+psycopg2://u:p%40@db.example.com:5432/app"
        assert loaded.sslmode == "disable"


class TestDatabase:
    @pytest.mark.parametrize(
        ("host", "port", "mode", "caches_off"),
        [
            ("aws-0-eu-west-1.pooler.supabase.com", 5432, "session", True),
            ("aws-0-eu-west-1.pooler.supabase.com", 6543, "transaction", True),
            # https://supabase.com/docs/guides/database/connecting-to-postgres#dedicated-pooler
            ("db.abcdefghijklmnopqrst.supabase.co", 6543, "transaction", True),
            ("db.abcdefghijklmnopqrst.supabase.co", 5432, "none", False),
            # https://neon.com/docs/connect/connection-pooling
            ("ep-cool-darkness-a1b2c3d4-pooler.us-east-2.aws.neon.tech", 5432, "transaction", True),
            ("ep-cool-darkness-a1b2c3d4.us-east-2.aws.neon.tech", 5432, "none", False),
            ("db.example.com", 5432, "none", False),
        ],
    )
    def test_pooler_is_told_from_host_and_port(
        self, project: Path, host: str, port: int, mode: str, caches_off: bool
    ) -> None:
        loaded = Settings(POSTGRES_HOST=host, POSTGRES_PORT=port, POSTGRES_PASSWORD="p")

        assert loaded.pooler_mode == mode
        assert (loaded.database_connect_args.get("statement_cache_size") == 0) is caches_off

    def test_remote_host_requires_tls(self, project: Path) -> None:
        remote = Settings(POSTGRES_HOST="db.example.com", POSTGRES_PASSWORD="p")

        assert remote.sync_connect_args["sslmode"] == "require"
        assert isinstance(remote.database_connect_args["ssl"], ssl.SSLContext)
        local = Settings(POSTGRES_HOST="127.0.0.1", POSTGRES_PASSWORD="p")
        assert local.sync_connect_args["sslmode"] == "disable"
        assert local.database_connect_args["ssl"] is False

    def test_ca_file_means_verified(self, project: Path) -> None:
        loaded = Settings(
            POSTGRES_HOST="db.example.com", POSTGRES_PASSWORD="p", POSTGRES_CA_FILE=certifi.where()
        )

        context = loaded.database_connect_args["ssl"]
        assert context.verify_mode == ssl.CERT_REQUIRED
        assert context.check_hostname
        assert loaded.sync_connect_args["sslmode"] == "verify-full"

    def test_named_without_a_password_uses_the_embedded_server(
        self, project: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        set_table(project, 'postgres_host = "aws-0.pooler.supabase.com"\nredis_host = "r"')

        named = Settings.load()
        assert (named.uses_local_postgres, named.uses_local_redis) == (True, True)

        set_environment(monkeypatch, POSTGRES_PASSWORD="p", REDIS_PASSWORD="p")
        unlocked = Settings.load()
        assert (unlocked.uses_local_postgres, unlocked.uses_local_redis) == (False, False)
        assert "aws-0.pooler.supabase.com" in unlocked.DATABASE_URL
        assert unlocked.REDIS_URL == "redis://default:p@r:6379/0"
