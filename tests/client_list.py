"""Write down every 50 ms who is connected to a Redis: `python client_list.py host port password`.

Runs beside the server, on any Python. Each line of its output is a sample in JSON: the moment, by
the machine's monotonic clock, and each connection's name and last command.
"""

import json
import re
import socket
import sys
import time
from contextlib import closing

INTERVAL = 0.05
OWN_NAME = "client_list.py"


def main(host: str, port: str, password: str) -> None:
    """Print samples for ever."""
    with closing(socket.create_connection((host, int(port)))) as connection:
        replies = connection.makefile("rb")

        def ask(*words: str) -> str:
            connection.sendall(" ".join(words).encode() + b"\r\n")
            line = replies.readline().decode().strip()
            if line.startswith("$"):
                line = replies.read(int(line[1:]) + len("\r\n")).decode()
            elif line != "+OK":
                sys.exit(f"{words[0]}: {line}")
            return line

        ask("AUTH", password)
        ask("CLIENT", "SETNAME", OWN_NAME)
        while True:
            moment = time.monotonic()
            found = re.findall(r" name=(\S*) .* cmd=(\S+)", ask("CLIENT", "LIST"))
            others = [each for each in found if each[0] != OWN_NAME]
            print(json.dumps({"at": moment, "connections": others}), flush=True)
            time.sleep(max(0, moment + INTERVAL - time.monotonic()))


if __name__ == "__main__":
    main(*sys.argv[1:])
