"""The stages of a probe, each against a real server that ends it there."""

from __future__ import annotations

import socket
import ssl
import subprocess
import threading

import pytest

from ops.network import dns
from ops.network.dns import Resolver
from ops.network.probe import probe
from tests.ops.doctor.network.wires import black_hole, closed_port, name_server, say, web


class TestNames:
    @pytest.mark.parametrize(
        ("answer", "kind", "word"),
        [((3, ""), "nxdomain", "NXDOMAIN"), ((2, ""), "servfail", "SERVFAIL"), (None, "timeout", "No name server answered"),
         ((5, ""), "refused", "refused")],
    )  # fmt: skip
    def test_what_a_name_server_says_is_told_apart(self, answer, kind, word):
        with name_server(lambda name: answer) as server:
            found = Resolver([server]).resolve("letta.test")
        assert (found.kind, found.ok, found.addresses) == (kind, False, ())
        assert word in found.sentence
        assert found.servers == ("127.0.0.1",)

    def test_a_name_that_is_known_has_an_address(self):
        with name_server(lambda name: (0, "127.0.0.5") if name == "letta.test" else (3, "")) as server:
            resolver = Resolver([server])
            assert resolver.resolve("letta.test").addresses == ("127.0.0.5",)
            assert resolver.resolve("other.test").kind == "nxdomain"

    def test_a_server_that_is_dead_is_passed_over_for_the_next(self):
        with name_server(lambda name: None) as dead, name_server(lambda name: (0, "127.0.0.1")) as alive:
            assert Resolver([dead, alive]).resolve("letta.test").ok

    def test_an_address_is_its_own_name_and_the_system_knows_localhost(self):
        assert Resolver().resolve("127.0.0.9").addresses == ("127.0.0.9",)
        assert "127.0.0.1" in Resolver().resolve("localhost").addresses

    def test_the_resolvers_file(self, tmp_path):
        path = tmp_path / "resolv.conf"
        path.write_text("# no\nnameserver 10.0.0.53\nsearch lan\nnameserver fe80::1%eth0\n")
        assert dns.nameservers(path) == [("10.0.0.53", 53), ("fe80::1", 53)]


class TestStages:
    def test_a_name_that_is_not_known_ends_at_dns(self):
        with name_server(lambda name: (3, "")) as server, dns.using(Resolver([server])):
            found = probe("http://letta.test:8283")
        assert (found.stage, found.kind, found.ok) == ("dns", "nxdomain", False)
        assert found.hop == "letta.test:8283"

    def test_refused_and_dropped_are_told_apart(self):
        refused = probe(f"http://127.0.0.1:{closed_port()}")
        with black_hole() as port:
            dropped = probe(f"http://127.0.0.1:{port}", timeout=1.0)
        assert (refused.stage, refused.kind) == ("tcp", "refused")
        assert (dropped.stage, dropped.kind) == ("tcp", "timeout")
        assert 900 <= dropped.milliseconds < 30_000
        assert "timed out, not refused" in dropped.sentence

    def test_tls_a_server_that_speaks_plain_http(self):
        with web(lambda handler: say(handler, 200)) as port:
            found = probe(f"https://127.0.0.1:{port}")
        assert (found.stage, found.ok) == ("tls", False)

    def test_tls_a_certificate_that_nobody_signed(self, tmp_path):
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=x",
             "-keyout", str(tmp_path / "key"), "-out", str(tmp_path / "cert")],
            check=True, capture_output=True,
        )  # fmt: skip
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(tmp_path / "cert", tmp_path / "key")
        with socket.create_server(("127.0.0.1", 0)) as listening:

            def serve():
                wire, _ = listening.accept()
                try:
                    context.wrap_socket(wire, server_side=True).close()
                except OSError:
                    wire.close()

            threading.Thread(target=serve, daemon=True).start()
            found = probe(f"https://127.0.0.1:{listening.getsockname()[1]}")
        assert (found.stage, found.kind) == ("tls", "certificate")
        assert "self-signed" in found.sentence or "self signed" in found.sentence

    def test_any_answer_is_an_answer_and_silence_is_none(self):
        with web(lambda handler: say(handler, 503)) as port:
            found = probe(f"http://127.0.0.1:{port}/v1")
        assert (found.stage, found.ok, found.status) == ("done", True, 503)
        assert set(found.stages) == {"dns", "tcp", "http"}
        with socket.create_server(("127.0.0.1", 0)) as listening:
            threading.Thread(target=lambda: listening.accept()[0].sendall(b"220 ftp\r\n"), daemon=True).start()
            found = probe(f"http://127.0.0.1:{listening.getsockname()[1]}")
        assert (found.stage, found.kind) == ("http", "not_http")

    def test_a_database_ends_with_the_connection(self):
        with socket.create_server(("127.0.0.1", 0)) as listening:
            found = probe(f"redis://:hunter2@127.0.0.1:{listening.getsockname()[1]}/0")
        assert found.ok
        assert "hunter2" not in str(found.to_dict())

    def test_what_is_no_address(self):
        assert probe("letta").stage == "address"
        assert probe("http://x:port").stage == "address"


class TestProxies:
    def test_through_a_proxy_that_asks_for_a_password(self):
        with web(lambda handler: say(handler, 407)) as port:
            plain = probe("http://letta.test:1/x", proxy=f"http://127.0.0.1:{port}")
            tunnel = probe("https://letta.test:1/x", proxy=f"http://127.0.0.1:{port}")
        assert (plain.stage, plain.kind) == ("proxy", "proxy_auth")
        assert (tunnel.stage, tunnel.kind) == ("proxy", "proxy_auth")

    def test_a_proxy_gets_the_password_and_the_whole_address(self):
        seen = []

        def handle(handler):
            seen.append((handler.path, handler.headers.get("Proxy-Authorization")))
            say(handler, 200, b"ok")

        with web(handle) as port:
            found = probe("http://letta.test/x", proxy=f"http://ada:pass%20word@127.0.0.1:{port}")
        assert found.ok
        assert seen == [("http://letta.test/x", "Basic YWRhOnBhc3Mgd29yZA==")]

    def test_a_proxy_that_does_not_let_us_through_and_what_is_no_proxy(self):
        with web(lambda handler: say(handler, 403)) as port:
            found = probe("https://letta.test", proxy=f"http://127.0.0.1:{port}")
            assert (found.stage, found.kind) == ("proxy", "proxy_refused")
        found = probe("https://letta.test", proxy=f"http://127.0.0.1:{closed_port()}")
        assert (found.stage, found.kind) == ("tcp", "refused")
