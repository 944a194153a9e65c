"""Which URLs and addresses webhooks are sent to."""

import socket

import pytest

from app.extensions.webhooks.addresses import (
    TargetRefusedError,
    check_url,
    is_public,
    resolve,
)


class TestUrls:
    @pytest.mark.parametrize(
        ("url", "reason"),
        [
            ("", "expected https://host/path"),
            ("no url", "expected https://host/path"),
            ("https://", "expected https://host/path"),
            ("http://example.com/", "expected https://"),
            ("ftp://example.com/", "expected https://"),
            ("file:///etc/passwd", "expected https://"),
            ("gopher://example.com/", "expected https://"),
            ("https://ada:secret@example.com/", "username or password"),
            ("https://example.com/#part", "#part|#fragment"),
            ("https://example.com/" + "x" * 2000, "longer than 2000"),
            ("https://localhost/", "localhost is no public address"),
            ("https://api.localhost./", "no public address"),
        ],
    )
    def test_are_refused_with_the_reason(self, url: str, reason: str) -> None:
        with pytest.raises(TargetRefusedError, match=reason):
            check_url(url)

    @pytest.mark.parametrize(
        "host",
        [
            "127.0.0.1",
            "127.1",
            "2130706433",
            "0x7f.0.0.1",
            "0177.0.0.1",
            "１２７.0.0.1",  # digits of another script, which are normal form's 127
            "0",
            "10.1.2.3",
            "169.254.169.254",
            "[::1]",
            "[::]",
            "[::ffff:127.0.0.1]",
            "[::ffff:a9fe:a9fe]",
            "[64:ff9b::10.0.0.1]",
            "[fd00:ec2::254]",
        ],
    )
    def test_with_a_private_address_are_refused_however_it_is_written(self, host: str) -> None:
        with pytest.raises(TargetRefusedError, match="no public address"):
            check_url(f"https://{host}/hook")

    @pytest.mark.parametrize(
        ("url", "stored"),
        [
            ("https://example.com", "https://example.com/"),
            ("HTTPS://EXAMPLE.com:443/Hook?a=B", "https://example.com/Hook?a=B"),
            ("https://bücher.example:8443/ü", "https://xn--bcher-kva.example:8443/%C3%BC"),
            ("https://8.8.8.8/", "https://8.8.8.8/"),
        ],
    )
    def test_are_stored_in_normal_form(self, url: str, stored: str) -> None:
        assert check_url(url) == stored
        assert check_url(stored) == stored

    def test_of_development_may_be_private_and_without_tls(self, private_targets: None) -> None:
        assert check_url("http://localhost:9000/") == "http://localhost:9000/"
        with pytest.raises(TargetRefusedError, match="expected https:// or http://"):
            check_url("ftp://localhost/")


class TestAddresses:
    @pytest.mark.parametrize(
        "address",
        [
            *("0.0.0.0", "0.1.2.3", "10.0.0.1", "100.64.0.1", "100.100.100.200", "127.0.0.53"),  # noqa: S104
            *("168.63.129.16", "169.254.169.254", "172.16.0.1", "172.31.255.255", "192.0.0.192"),
            *("192.0.2.1", "192.88.99.1", "192.168.1.1", "198.19.0.1", "198.51.100.1"),
            *("203.0.113.1", "224.0.0.1", "239.255.255.250", "240.0.0.1", "255.255.255.255"),
            *("::", "::1", "::7f00:1", "::ffff:8.8.8.8", "::ffff:127.0.0.1", "64:ff9b::7f00:1"),
            *("64:ff9b:1::1", "100::1", "2001::1", "2001:db8::1", "2002:7f00:1::", "3fff::1"),
            *("5f00::1", "fc00::1", "fd00:ec2::254", "fe80::1", "fe80::1%eth0", "fec0::1"),
            *("ff02::1", "4000::1"),
        ],
    )
    def test_that_are_not_public(self, address: str) -> None:
        assert not is_public(address)

    @pytest.mark.parametrize(
        "address",
        [
            *("1.1.1.1", "8.8.8.8", "9.255.255.255", "11.0.0.0", "100.63.255.255", "100.128.0.0"),
            *("172.15.255.255", "172.32.0.0", "192.167.255.255", "198.20.0.0", "223.255.255.255"),
            *("2606:4700:4700::1111", "2a00:1450::1", "2001:4860:4860::8888", "64:ff9b::808:808"),
        ],
    )
    def test_that_are_public(self, address: str) -> None:
        assert is_public(address)


class TestNames:
    def test_of_this_machine_are_refused(self) -> None:
        """A name that the system's own resolver knows, and that stands for a private address."""
        with pytest.raises(TargetRefusedError, match=r"localhost stands for (127\.|::1)"):
            resolve("localhost", 443)

    def test_with_one_private_address_among_public_ones_are_refused(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        found = [(socket.AF_INET, 1, 6, "", (each, 443)) for each in ("8.8.8.8", "10.0.0.1")]
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)
        with pytest.raises(TargetRefusedError, match=r"mixed\.example stands for 10\.0\.0\.1"):
            resolve("mixed.example", 443)

    @pytest.mark.parametrize("host", ["no-such-name.invalid", "a..b", "x" * 300])
    def test_that_are_unknown_are_an_error_of_the_system(self, host: str) -> None:
        with pytest.raises(socket.gaierror):
            resolve(host, 443)

    def test_may_be_addresses(self) -> None:
        assert resolve("8.8.8.8", 443) == ["8.8.8.8"]
        assert resolve("2606:4700:4700::1111", 443) == ["2606:4700:4700::1111"]

    def test_of_development_may_be_private(self, private_targets: None) -> None:
        assert "127.0.0.1" in resolve("localhost", 443)
