"""Load by wrk (https://github.com/wg/wrk; Debian: `apt-get install wrk`)."""

import json
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from bench.service import Server

REPORT = Path(__file__).with_name("load.lua")
IN_ROTATION = """
tokens = {}
for line in io.lines(tokens_file) do tokens[#tokens + 1] = line end
math.randomseed(os.time())
turn = math.random(#tokens)
function request()
  turn = turn % #tokens + 1
  wrk.headers["Authorization"] = "Bearer " .. tokens[turn]
  return wrk.format()
end"""
FAILED = "load on {url} failed: {errors} errors in {requests} requests"


@dataclass(frozen=True)
class Request:
    """What is asked again and again."""

    method: str
    path: str
    body: str = ""
    token: str = ""
    tokens: Path | None = None
    """A file with a token a line, each of which is used once before any is used again."""


@dataclass(frozen=True)
class Load:
    """What came of it."""

    requests_per_second: float
    requests_per_cpu_second: float
    """Of the server's process."""
    median_ms: float
    p99_ms: float


def put_load(server: Server, request: Request, *, clients: int = 32, seconds: float = 2) -> Load:
    """Ask from so many connections, each as soon as it has its answer.

    Raises:
        RuntimeError: when wrk is missing, or a request was not answered with success.
    """
    if shutil.which("wrk") is None:
        raise RuntimeError("wrk is not installed: apt-get install wrk")
    url = f"http://127.0.0.1:{server.port}{request.path}"
    command = ["wrk", "--threads", "1", "--connections", str(clients), "--duration", f"{seconds:g}"]
    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder) / "request.lua"
        script.write_text(_script(request), encoding="utf-8")
        before = server.cpu_seconds()
        command += ["--timeout", "30", "--script", str(script), url]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        used = server.cpu_seconds() - before
    report = json.loads(done.stdout.splitlines()[-1])
    if report["errors"] or not report["requests"]:
        raise RuntimeError(FAILED.format(url=url, **report))
    return Load(
        requests_per_second=report["requests"] / report["seconds"],
        requests_per_cpu_second=report["requests"] / used,
        median_ms=report["p50_ms"],
        p99_ms=report["p99_ms"],
    )


def _script(request: Request) -> str:
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {request.token}"}
    lines = [f"wrk.method = {json.dumps(request.method)}"]
    if request.body:
        lines.append(f"wrk.body = {json.dumps(request.body)}")
    if request.tokens:
        lines += [f"tokens_file = {json.dumps(str(request.tokens))}", IN_ROTATION]
    lines += [f"wrk.headers[{json.dumps(k)}] = {json.dumps(v)}" for k, v in headers.items()]
    return "\n".join([*lines, REPORT.read_text(encoding="utf-8")])
