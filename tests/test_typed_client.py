"""A typed client, built from `openapi.json` as the documentation says, calls a running service."""

import json
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import monotonic

import pytest

from tests.combinations import catalogue
from tests.documents import BLOCK, commands_of
from tests.installed_servers import free_port, with_us
from tests.repositories import REPOSITORY
from tests.service import Service, answer_of
from tests.test_extensions import workshop
from tests.trees import Workshop

__all__ = ["workshop"]

pytestmark = [
    pytest.mark.full,
    pytest.mark.usefixtures("fast_copier"),
    pytest.mark.xdist_group("extensions"),
]

PAGE = REPOSITORY / "docs" / "stack" / "api.md"
GENERATE = next(command for command in commands_of(PAGE) if "openapi-python-client" in command)
GENERATE = GENERATE.replace("uvx ", "uv tool run ")  # which is the same, and the one that is there
OF_THE_CLIENT = re.findall(r"uv tool run --from \S+", GENERATE)[0]
PROGRAM = next(
    body for _, title, body in BLOCK.findall(PAGE.read_text("utf-8")) if title == "read_notes.py"
)
START_SECONDS = 60

REFUSED = """
from api_client import AuthenticatedClient
from api_client.api.example_notes import example_create_note, example_list_notes, example_read_note
from api_client.models import ExampleNoteInput, ProblemDetails

client = AuthenticatedClient("http://127.0.0.1:8000", token="api_…")
too_long = example_create_note.sync_detailed(client=client, body=ExampleNoteInput(title="x" * 201))
assert too_long.status_code == 422
assert isinstance(too_long.parsed, ProblemDetails)
assert [error.pointer for error in too_long.parsed.errors] == ["/title"]
made_up = example_list_notes.sync(client=client, after="made-up")
assert isinstance(made_up, ProblemDetails)
assert [error.pointer for error in made_up.errors] == ["/after"]
missing = example_read_note.sync(2147483647, client=client)
assert isinstance(missing, ProblemDetails)
assert (missing.status, missing.detail) == (404, "There is no note 2147483647.")
"""


@pytest.fixture
def service(workshop: Workshop) -> Service:
    """A service with every extension, the skeleton of one included."""
    everything, port = workshop.everything, free_port()
    enabled = {"ENABLED_EXTENSIONS": ",".join(["_example", *catalogue()]), "API_PORT": str(port)}
    return Service(everything.folder, everything.environment | enabled)


@contextmanager
def running_api(service: Service) -> Iterator[str]:
    """The API alone, as on a developer's machine; its address."""
    address = f"http://127.0.0.1:{service.environment['API_PORT']}"
    process = subprocess.Popen(
        [*with_us("TERM"), ".venv/bin/python", "-m", "kit.commands.serve"],
        cwd=service.folder,
        env=service.environment,
    )
    try:
        until = monotonic() + START_SECONDS
        while not is_ready(address):
            assert process.poll() is None, "the API has ended"
            assert monotonic() < until, "the API does not start"
        yield address
    finally:
        process.terminate()
        process.wait(START_SECONDS)


def is_ready(address: str) -> bool:
    try:
        return answer_of(f"{address}/health/live")[0] == 200
    except OSError:
        return False


def test_is_built_from_the_document_and_calls_the_service(service: Service, tmp_path: Path) -> None:
    service.make("openapi")
    document = (service.folder / "openapi.json").read_text(encoding="utf-8")
    service.run("bash", "-c", f"{GENERATE} --fail-on-warning")
    (service.folder / "api_client").rename(tmp_path / "api_client")

    def run(program: str) -> str:
        program = program.replace("http://127.0.0.1:8000", address).replace("api_…", token)
        (tmp_path / "program.py").write_text(program, encoding="utf-8")
        at_client = Service(tmp_path, service.environment)
        return at_client.run("bash", "-c", f"{OF_THE_CLIENT} python program.py")

    with running_api(service) as address:
        # In the order of another process, whose sets have theirs.
        served = json.loads(answer_of(f"{address}/openapi.json")[1])
        assert document == f"{json.dumps(served, indent=2, ensure_ascii=False)}\n"
        made = service.make("token", "name=client", "scopes=example:read,example:write")
        token = re.findall(r"api_\S+", made)[0]
        assert run(PROGRAM).splitlines()[-2:] == ["one three", "two"]
        run(REFUSED)
