"""The broker's address: the queue and plain Redis clients write the same place in different ways."""

from urllib.parse import parse_qs, unquote, urlsplit


def redis_client_url(url: str) -> str:
    """Return the URL that redis-py reads for one written as Celery reads it (`redis+socket://` becomes `unix://`)."""
    if not url.startswith("redis+socket://"):
        return url
    parts = urlsplit(url)
    database = parse_qs(parts.query).get("virtual_host", ["0"])[0]
    credentials = f":{parts.password}@" if parts.password else ""
    return f"unix://{credentials}{unquote(parts.path)}?db={database}"
