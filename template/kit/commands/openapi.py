"""Write the API's OpenAPI schema to `openapi.json`: `python -m kit.commands.openapi`.

For generators of clients; it needs neither a server nor a running API.
"""

import json

from kit.commands import run_command
from kit.places import service
from kit.settings import BASE_DIR


def main() -> None:
    """Write the file, with the same content that a running API answers at `/openapi.json`."""
    schema = json.dumps(service.application.openapi(), indent=2, ensure_ascii=False)
    (BASE_DIR / "openapi.json").write_text(f"{schema}\n", encoding="utf-8")
    print("openapi.json is written.")


if __name__ == "__main__":
    run_command(main)
