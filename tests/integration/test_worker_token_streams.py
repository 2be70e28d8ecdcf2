"""Text that is being written passes through the broker and never comes to lie on its disk."""

from pathlib import Path

import pytest
from redis import Redis

from medx_core.jobs.messages import redis_client_url, token_stream_name
from tests.broker import running_broker
from tests.waiting import until
from workers.token_streams import TokenStreams

TEXT = "Zwetschgenkuchen helps against nothing."


def streamed(url: str) -> list[dict[str, str]]:
    """Write one answer as a worker does; return what a page would read of it."""
    streams = TokenStreams(url)
    streams.start()
    streams.begin(7, "steered")
    streams.piece(7, "steered", TEXT)
    streams.done(7, "steered")
    streams.stop()
    with Redis.from_url(redis_client_url(url), decode_responses=True) as broker:
        return [fields for _, fields in broker.xrange(token_stream_name(7, "steered"))]


def content(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())


def _begins_a_file(broker: Redis) -> bool:
    state = broker.info("persistence")
    return bool(state["aof_rewrite_in_progress"] or state["aof_rewrite_scheduled"])


def test_the_embedded_broker_carries_text_and_writes_none_of_it(tmp_path: Path) -> None:
    with running_broker(tmp_path) as url:
        assert {"text": TEXT} in streamed(url)
    assert TEXT.encode() not in content(tmp_path)


@pytest.mark.parametrize(("setting", "value"), [("appendonly", "yes"), ("save", "1 1")])
def test_a_broker_that_writes_to_disk_gets_no_text(tmp_path: Path, setting: str, value: str) -> None:
    with running_broker(tmp_path) as url:
        with Redis.from_url(redis_client_url(url)) as broker:
            broker.config_set(setting, value)
            until(lambda: not _begins_a_file(broker))  # it does not end in the middle of that
        assert streamed(url) == [{"restart": "1"}, {"done": "1"}]
    assert TEXT.encode() not in content(tmp_path)


def test_a_broker_that_does_not_say_whether_it_writes_gets_no_text(tmp_path: Path) -> None:
    with running_broker(tmp_path) as url:
        with Redis.from_url(redis_client_url(url)) as broker:
            broker.execute_command("ACL", "SETUSER", "default", "-config")
        assert streamed(url) == [{"restart": "1"}, {"done": "1"}]


def test_an_append_only_file_of_an_earlier_version_is_removed(tmp_path: Path) -> None:
    kept = tmp_path / "appendonlydir"
    kept.mkdir()
    (kept / "appendonly.aof.1.incr.aof").write_text(TEXT)
    with running_broker(tmp_path):
        assert TEXT.encode() not in content(tmp_path)
