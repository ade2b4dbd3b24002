"""The documented deployment, through real proxies: the unit's options, the shipped files of nginx and Caddy."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from tests.coordinator.served import Served
from tests.coordinator.test_endpoints import enrolled
from tests.coordinator.wire.proxies import DEPLOY, NAME, SHIPPED_SITES, proxied
from thinwire.coordinator.settings import ServeSettings
from thinwire.operator.doctor_proxies import examine_uploads

DEFAULT = "server { listen 443; location / { proxy_pass http://127.0.0.1:8080; } }"
"""What somebody writes who has read nothing."""


def _unit_options() -> dict[str, str]:
    """Of `thinwire serve` in the coordinator's unit, beside folder and port."""
    text = (DEPLOY / "systemd" / "thinwire-coordinator.service").read_text()
    (line,) = re.findall(r"^ExecStart=.* serve (.*)$", text, re.MULTILINE)
    found = {name.replace("-", "_"): value for name, value in re.findall(r"--(\S+) (\S+)", line)}
    return {name: value for name, value in found.items() if name not in {"data_dir", "port"}}


SITES = SHIPPED_SITES | {"by default": DEFAULT}
SHIPPED = "nginx.conf"


@pytest.mark.parametrize("site", SITES)
def test_through_the_proxy_nothing_is_read_without_a_token_and_nobody_is_shut_out_by_a_stranger(
    serve: Callable[..., Served], tmp_path: Path, site: str
) -> None:
    served = serve(**_unit_options(), max_failures_per_address=5)
    run = served.run()["id"]
    with proxied(tmp_path, SITES[site], served.port) as url, httpx.Client(base_url=url, headers={"host": NAME}) as web:
        for path in (
            "/v1/runs",
            f"/v1/runs/{run}/ledger",
            f"/v1/runs/{run}/model",
            "/metrics",
            f"/v1/runs/{run}/events",
        ):
            for claimed in ({}, {"x-forwarded-for": "127.0.0.1"}, {"forwarded": "for=127.0.0.1"}):
                assert web.get(path, headers=claimed).json()["reason"] == "token-missing", (path, claimed)
        assert web.get("/v1/runs", headers=served.operator).json()["runs"][0]["id"] == run
        invite = served.invite()
        # Who asks through the proxy is 127.0.0.1 in this test; the newcomer comes from elsewhere.
        for _ in range(20):
            web.post("/v1/clients", json={"invite": "wrong"})
        newcomer = httpx.post(
            f"{served.url}/v1/clients", json={"invite": invite}, headers={"x-forwarded-for": "192.0.2.7"}
        )
        assert newcomer.status_code == 201, newcomer.text


def test_the_shipped_proxy_says_for_whom_it_asks_and_believes_no_claim(
    serve: Callable[..., Served], tmp_path: Path
) -> None:
    """Each address has its own failures: those behind the proxy are told apart, whatever they say of themselves."""
    served = serve(**_unit_options(), max_failures_per_address=3)
    # All in this test comes from the proxy's own address, which has no limits.
    site = SITES[SHIPPED].replace("$remote_addr", "192.0.2.1")
    with proxied(tmp_path, site, served.port) as url, httpx.Client(base_url=url, headers={"host": NAME}) as web:
        wrong = {"authorization": "Bearer wrong"}
        statuses = [
            web.get("/v1/runs", headers={**wrong, "x-forwarded-for": f"198.51.100.{number}"}).status_code
            for number in range(4)
        ]
        assert statuses == [401, 401, 401, 429]
        assert enrolled(served, "newcomer")


def test_without_the_unit_s_options_a_proxy_is_refused_rather_than_believed(
    serve: Callable[..., Served], tmp_path: Path
) -> None:
    served = serve()
    with proxied(tmp_path, SITES[SHIPPED], served.port) as url:
        refused = httpx.get(f"{url}/v1/runs", headers={"host": NAME})
        assert refused.json()["reason"] == "bad-request"
        assert "--trusted-proxies" in refused.json()["detail"]
    with proxied(tmp_path, DEFAULT, served.port) as url:
        assert httpx.get(f"{url}/v1/runs", headers={"host": NAME}).json()["reason"] == "token-missing"


BUFFERED = DEFAULT.replace("location /", "client_max_body_size 0; client_body_buffer_size 65m; location /")
"""In memory, since the folder of this test is not the worker's."""


@pytest.mark.parametrize(
    ("site", "state", "said", "cure"),
    [
        (SITES[SHIPPED], "ok", "as they come", ""),
        (DEFAULT, "warning", "takes no body of 64 MiB", "client_max_body_size"),
        (BUFFERED, "wrong", "holds them back", "proxy_request_buffering"),
    ],
    ids=["shipped", "by default", "without a limit"],
)
def test_doctor_shows_what_the_usual_settings_of_a_proxy_break(
    serve: Callable[..., Served], tmp_path: Path, site: str, state: str, said: str, cure: str
) -> None:
    served = serve(**_unit_options())
    with proxied(tmp_path, site, served.port) as url:
        parts = httpx.URL(url)
        assert parts.port is not None
        (found,) = examine_uploads(parts.host, parts.port, None, tls=False, patience_s=1.0)
    assert (found.state, said in found.said, cure in found.cure) == (state, True, True), found


def test_the_unit_names_theproxied() -> None:
    settings = ServeSettings(**_unit_options())  # type: ignore[arg-type]
    assert settings.loopback
    assert settings.proxies.local
    assert {"127.0.0.1", "::1"} <= settings.proxies.names
