"""A broker of the tests' own."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from redis import Redis
from redis.exceptions import RedisError

from deploy.embedded_broker import prepare_broker
from medx_core.jobs.messages import redis_client_url
from tests.waiting import until


@pytest.fixture(scope="session")
def broker_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a running broker, for token streams and shared counts."""
    with running_broker(tmp_path_factory.mktemp("broker")) as url:
        yield url


@contextmanager
def running_broker(folder: Path) -> Iterator[str]:
    """Run a broker with its files in a folder until the block ends; gives its address."""
    broker = prepare_broker(folder)
    process = subprocess.Popen(broker.command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        with Redis.from_url(redis_client_url(broker.url)) as redis:
            until(lambda: _answers(redis))
        yield broker.url
    finally:
        process.terminate()
        process.wait(timeout=20)


def _answers(redis: Redis) -> bool:
    try:
        return bool(redis.ping())
    except RedisError:
        return False
