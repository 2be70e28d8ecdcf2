"""For those who run MedX: `/healthz` and `/metrics`. Neither shows content."""

import ipaddress
from collections.abc import Iterator

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response
from prometheus_client import CollectorRegistry, Counter
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.registry import Collector

from medx_core.clock import iso
from medx_core.errors import MedxError
from medx_core.home import write_fault
from web.proxies import UNTRUSTED_PROXY_IN_SCOPE
from web.services import Services

REGISTRY = CollectorRegistry()
SIGN_INS_FAILED = Counter("medx_sign_ins_failed", "Attempts to sign in that were refused.", registry=REGISTRY)
SUBMITTED = Counter(
    "medx_submitted_questions", "Questions committed by this process.", ["kind"], registry=REGISTRY
)


class Backlog(Collector):
    """Waiting work and workers, read from the database when scraped."""

    def __init__(self, services: Services) -> None:
        self._services = services

    def collect(self) -> Iterator[Metric]:
        """Yield the gauges."""
        backlog = self._services.health.backlog()
        waiting = GaugeMetricFamily("medx_waiting_questions", "Questions not answered yet.", labels=["queue"])
        oldest = GaugeMetricFamily(
            "medx_oldest_waiting_seconds", "Age of the oldest waiting job.", labels=["queue"]
        )
        for queue, state in backlog.items():
            waiting.add_metric([queue], state.waiting)
            oldest.add_metric([queue], state.oldest_seconds or 0.0)
        yield waiting
        yield oldest
        workers = self._services.live_workers()
        yield GaugeMetricFamily("medx_workers_seen", "Workers seen lately.", value=len(workers))


def health(services: Services) -> dict[str, object]:
    """Say whether the database answers, the disk takes what is written, and a worker was seen; `ok` asks for all."""
    disk = write_fault(services.settings.home)
    try:
        workers = services.health.processes(kind="worker")
        live = services.live_workers()
        backlog = services.health.backlog()
    except MedxError as error:
        return {"ok": False, "database": False, "disk": disk or "writable", "message": str(error)}
    return {
        "ok": bool(live) and not disk,
        "database": True,
        "disk": disk or "writable",
        "workers": len(live),
        "worker_last_seen": iso(workers[0].seen_at) if workers else None,
        "limits": "shared" if services.counts.is_shared() else "per process",
        "waiting": sum(state.waiting for state in backlog.values()),
        "oldest_waiting_seconds": max(
            (state.oldest_seconds or 0.0 for state in backlog.values()), default=0.0
        ),
    }


def operations_routes(services: Services) -> APIRouter:
    """Return `/healthz` (200 once the database answers; see `ok` for the worker) and `/metrics`."""
    router = APIRouter()
    backlog = Backlog(services)

    @router.get("/healthz")
    def healthz() -> JSONResponse:
        state = health(services)
        return JSONResponse(state, status_code=200 if state["database"] else 503)

    @router.get("/metrics")
    def metrics(request: Request) -> Response:
        if not services.settings.metrics_open and not _from_this_host(request):
            return JSONResponse(
                {"detail": "Metrics are for this host only; see MEDX_METRICS_OPEN."}, status_code=403
            )
        scrape = CollectorRegistry()
        scrape.register(backlog)
        return Response(generate_latest(REGISTRY) + generate_latest(scrape), media_type=CONTENT_TYPE_LATEST)

    return router


def _from_this_host(request: Request) -> bool:
    if request.scope.get(UNTRUSTED_PROXY_IN_SCOPE):  # from anywhere, by a proxy on this host
        return False
    try:
        return request.client is not None and ipaddress.ip_address(request.client.host).is_loopback
    except ValueError:
        return False
