import ssl
from collections.abc import Iterator
from pathlib import Path

import certifi
import pytest

from app.core.config import Settings, StartupError
from kit.settings import _base as settings_base

PRODUCTION = {
    "ENVIRONMENT": "production",
    "SECRET_KEY": "x" * 32,
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
            ("CORS_ORIGINS", "*", "CORS_ORIGINS lists no origins"),
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
