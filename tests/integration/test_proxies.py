"""The examples of docs/proxy.md, run by the real programs in front of a real site."""

import re
import shutil
import ssl
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from medx_core.ports import free_port
from tests.waiting import until
from tests.web_site import PASSWORD, WebSite, running_site
from web.rendering import serve_below

EXAMPLES = Path(__file__).parents[2] / "docs" / "proxy.md"


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Iterator[WebSite]:
    home = tmp_path_factory.mktemp("web") / "home"
    with running_site(
        home, root_path="/medx", trusted_proxies="127.0.0.1", allowed_hosts="localhost"
    ) as running:
        yield running
    serve_below("")


@pytest.fixture(params=["nginx", "caddyfile"])
def proxied(request, site, tmp_path) -> Iterator[httpx.Client]:
    """A client of the site through a proxy with TLS, by the example of that program."""
    program = shutil.which(request.param.removesuffix("file"))
    if program is None or shutil.which("openssl") is None:
        pytest.skip(f"{request.param.removesuffix('file')} or openssl is not installed on this machine")
    example = re.search(rf"```{request.param}\n(.*?)```", EXAMPLES.read_text("utf-8"), flags=re.DOTALL)[1]
    port = free_port()
    certificate, key = tmp_path / "medx.pem", tmp_path / "medx.key"
    make_certificate(certificate, key)
    config = example.replace("127.0.0.1:7860", site.url.removeprefix("http://"))
    run = nginx if request.param == "nginx" else caddy
    context = ssl.create_default_context(cafile=certificate)
    with (
        run(program, config, port, certificate, key, tmp_path),
        httpx.Client(base_url=f"https://localhost:{port}", verify=context, timeout=30) as client,
    ):
        until(lambda: answers(client))
        yield client


def make_certificate(certificate: Path, key: Path) -> None:
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
         "-days", "2", "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost",
         "-keyout", str(key), "-out", str(certificate)],
        check=True, capture_output=True,
    )  # fmt: skip


def answers(client: httpx.Client) -> bool:
    try:
        return client.get("/medx/login").status_code == 200
    except httpx.TransportError:
        return False


@contextmanager
def nginx(program, example, port, certificate, key, folder) -> Iterator[None]:
    server = (
        example.replace("443 ssl", f"127.0.0.1:{port} ssl")
        .replace("/etc/ssl/medx.pem", str(certificate))
        .replace("/etc/ssl/medx.key", str(key))
        .replace("medx.example.org", "localhost")
    )
    kept = "".join(
        f"{name}_temp_path {folder}/{name};\n"
        for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    config = folder / "nginx.conf"
    config.write_text(
        f"daemon off; pid {folder}/nginx.pid; error_log stderr;\nevents {{}}\nhttp {{\naccess_log off;\n{kept}{server}}}\n"
    )
    with ended(subprocess.Popen([program, "-p", str(folder), "-e", "stderr", "-c", str(config)])):
        yield


@contextmanager
def caddy(program, example, port, certificate, key, folder) -> Iterator[None]:
    site = example.replace(
        "medx.example.org {", f"https://localhost:{port} {{\n    tls {certificate} {key}\n"
    )
    config = folder / "Caddyfile"
    config.write_text(f"{{\n    admin off\n    auto_https disable_redirects\n}}\n{site}")
    environment = {"HOME": str(folder), "PATH": "/usr/bin:/bin"}
    command = [program, "run", "--config", str(config), "--adapter", "caddyfile"]
    with ended(subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL)):
        yield


@contextmanager
def ended(process: subprocess.Popen[bytes]) -> Iterator[None]:
    try:
        yield
    finally:
        process.terminate()
        process.wait(timeout=20)


def test_one_signs_in_through_the_proxy_and_all_stays_below_the_path(site, proxied):
    first = proxied.get("/medx/app/batch", headers={"accept": "text/html"})
    assert first.headers["location"] == "/medx/login?next=%2Fapp%2Fbatch"
    reply = proxied.post(
        "/medx/login",
        data={"name": "asa", "password": PASSWORD},
        headers={"x-forwarded-for": "203.0.113.9", "origin": str(proxied.base_url).rstrip("/")},
    )
    assert reply.headers["location"] == "/medx/app/"
    cookie = next(line for line in reply.headers.get_list("set-cookie") if "medx_session" in line)
    assert "Secure" in cookie
    assert "Path=/medx" in cookie
    # What the client itself says of where it comes from is not what the proxy saw.
    assert site.services.credentials.of(site.services.people.find("asa"))[0].address == "127.0.0.1"
    root = proxied.get("/medx/app/config").json()["root"]
    assert root == f"{str(proxied.base_url).rstrip('/')}/medx/app"
    assert (
        "text/html" in proxied.get("/medx/app/batch", headers={"accept": "text/html"}).headers["content-type"]
    )
    assert proxied.get("/medx/template.csv").text.startswith("id,")
    # The stream stays open: its first event arrives only where nothing holds it back.
    with proxied.stream("GET", "/medx/app/gradio_api/heartbeat/page") as stream:
        assert "ALIVE" in next(stream.iter_text())
