"""Servers run while anybody holds them, whoever is killed, and keep what they were given."""

import os
import shutil
import socket
import subprocess
from dataclasses import replace
from pathlib import Path

import psutil  # type: ignore[import-untyped]
import pytest

from kit.devservices import lease
from kit.devservices._servers import unprivileged_identity
from kit.tests.devservices.project import Project, gone, kill_hard, wait_until

pytestmark = pytest.mark.slow

NOTHING_OUTLIVES_SECONDS = 10


def assert_gone_with_release(running: list[psutil.Process]) -> None:
    """The servers are gone by now; the keeper, whose last act it is to say so, is about to be."""
    keeper, *servers = running
    assert gone(*servers)
    wait_until(lambda: gone(keeper))


class TestLease:
    def test_concurrent_starts_share_the_servers(self, project: Project) -> None:
        first, second = project.start(), project.start()
        first.wait_until_held()
        second.wait_until_held()
        shared = project.processes()

        first.release()
        assert project.query("SELECT 1") == [(1,)]
        second.release()
        assert_gone_with_release(shared)

    def test_release_returns_when_the_servers_are_gone(self, own_project: Project) -> None:
        with lease(own_project.directory):
            running = own_project.processes()
            assert len(running) > 2
        assert_gone_with_release(running)

    def test_only_what_is_asked_for_starts(self, project: Project) -> None:
        holder = project.hold("redis")
        first = set(project.servers())
        other = project.hold("postgres")
        both = set(project.servers())
        holder.release()
        other.release()

        assert "postgres" not in first
        assert first | {"postgres"} == both

    def test_data_is_kept(self, project: Project) -> None:
        holder = project.hold()
        project.query("CREATE TABLE IF NOT EXISTS kept (value text)")
        project.query("INSERT INTO kept VALUES ('a row')")
        project.redis().set("kept", "a key")
        holder.release()

        holder = project.hold()
        assert ("a row",) in project.query("SELECT value FROM kept")
        assert project.redis().get("kept") == b"a key"
        holder.release()

    def test_a_path_longer_than_a_sockets_may_be(self, own_project: Project) -> None:
        deep = own_project.directory / ("a folder with a long name " * 4) / "and another"
        deep.mkdir(parents=True)
        with lease(deep, postgres=False), lease(deep, postgres=False):
            assert Project(deep, {}).redis().ping()


class TestWhenSomethingIsKilled:
    def test_the_holder_takes_the_servers_along(self, project: Project) -> None:
        holder = project.hold()
        running = project.processes()
        holder.kill()
        wait_until(lambda: gone(*running), NOTHING_OUTLIVES_SECONDS)

    def test_the_keeper_takes_the_servers_along_and_the_next_start_recovers(
        self, project: Project
    ) -> None:
        holder = project.hold()
        project.query("CREATE TABLE IF NOT EXISTS kept_by_keeper (value text)")
        project.query("INSERT INTO kept_by_keeper VALUES ('a row')")
        running = project.processes()
        kill_hard(running[0])
        # At once: it has to wait for servers that are still ending.
        successor = project.hold()
        assert gone(*running)
        assert ("a row",) in project.query("SELECT value FROM kept_by_keeper")
        holder.release()
        successor.release()

    def test_postgresql_ends_all_and_the_next_start_recovers(self, project: Project) -> None:
        holder = project.hold()
        project.query("CREATE TABLE IF NOT EXISTS survives (value text)")
        project.query("INSERT INTO survives VALUES ('a row')")
        running = project.processes()
        kill_hard(project.servers()["postgres"])
        wait_until(lambda: gone(*running), NOTHING_OUTLIVES_SECONDS)

        successor = project.hold()
        assert ("a row",) in project.query("SELECT value FROM survives")
        holder.release()
        successor.release()

    def test_the_holder_learns_which_server_ended(self, own_project: Project) -> None:
        held = lease(own_project.directory, postgres=False)
        [server] = own_project.servers().values()
        kill_hard(server)
        assert held.reason_of_loss() == "Valkey was ended by SIGKILL"
        held.release()

    def test_a_killed_initdb_is_done_over(self, own_project: Project) -> None:
        own_project.data.mkdir(mode=0o711)
        unfinished = own_project.data / "pg.new"
        unfinished.mkdir()
        (unfinished / "PG_VERSION").write_text("18\n")
        own_project.hold("postgres").release()
        assert not unfinished.exists()

    def test_a_process_number_that_another_program_has_got_is_no_server(
        self, project: Project
    ) -> None:
        project.hold("postgres").release()
        # As whoever runs PostgreSQL, since the numbers of others do not matter to it.
        identity = project.identity or unprivileged_identity()
        with subprocess.Popen(["sleep", "600"], **identity) as other:
            stale = project.data / "pg" / "postmaster.pid"
            stale.write_text(f"{other.pid}\n{stale.parent}\n")
            project.hold("postgres").release()
            other.kill()


class TestRefusals:
    @pytest.mark.parametrize(("server", "title"), [("postgres", "PostgreSQL"), ("redis", "Valkey")])
    def test_a_port_of_somebody_else(self, own_project: Project, server: str, title: str) -> None:
        own_project.data.mkdir()
        port = getattr(own_project.addresses, server).port
        with socket.create_server(("127.0.0.1", port)):
            message = own_project.start(server).refusal()
        assert f"port {port} of 127.0.0.1, reserved for this project's {title}" in message
        assert f'"port" of "{server}" in {own_project.data / "services.json"}' in message

    def test_data_of_another_major_version(self, own_project: Project) -> None:
        version = own_project.data / "pg" / "PG_VERSION"
        own_project.data.mkdir(mode=0o711)
        version.parent.mkdir()
        version.write_text("9\n")
        message = own_project.start("postgres").refusal()
        assert "was made by PostgreSQL 9" in message
        assert f"remove {version.parent}" in message

    def test_programs_that_are_not_there(self, own_project: Project, tmp_path: Path) -> None:
        message = own_project.start("postgres", PG_BINDIR=str(tmp_path)).refusal()
        assert f"PG_BINDIR is {tmp_path}, but {tmp_path} has no initdb" in message

    def test_data_of_another_user(self, project: Project, own_project: Project) -> None:
        if not project.identity:
            pytest.skip("takes two users")
        own_project.hold("redis").release()
        theirs = replace(project, directory=own_project.directory)
        message = theirs.start("redis").refusal()
        assert "belongs to another user" in message or "cannot be written" in message


def test_the_password_of_a_new_services_json_is_the_databases(project: Project) -> None:
    project.hold("postgres").release()
    (project.data / "services.json").unlink()
    holder = project.hold("postgres")
    assert project.query("SELECT 1") == [(1,)]
    holder.release()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root runs PostgreSQL as somebody else")
class TestRootInAPrivateDirectory:
    def test_the_database_lies_elsewhere_and_is_linked(self, own_project: Project) -> None:
        own_project.directory.chmod(0o700)
        own_project.hold("postgres").release()
        link = own_project.data / "pg"
        elsewhere = link.readlink()
        try:
            assert (elsewhere / "PG_VERSION").exists()
            holder = own_project.hold("postgres")
            assert own_project.query("SELECT 1") == [(1,)]
            holder.release()
            shutil.copytree(own_project.directory, own_project.directory / "copy", symlinks=True)
            copy = Project(own_project.directory / "copy", {})
            assert "Was it copied?" in copy.start("postgres").refusal()
        finally:
            shutil.rmtree(elsewhere)
