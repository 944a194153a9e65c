"""Prints how many seconds the embedded servers take until they answer."""

from time import perf_counter

from kit.devservices import temporary_servers

if __name__ == "__main__":
    started = perf_counter()
    with temporary_servers():
        print(perf_counter() - started)
