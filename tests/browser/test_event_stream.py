"""The page's stream of events against a server that shuts it at the worst moment."""

from pathlib import Path

from playwright.sync_api import Browser

import web

SCRIPT = Path(web.__file__).parent / "assets" / "event_stream.js"

SERVER = """
  const streams = [];
  const message = (stream, content) =>
    stream.enqueue(new TextEncoder().encode(`data: ${JSON.stringify(content)}\\n\\n`));
  let answerJoin;
  window.fetch = async (address) => {
    if (address.includes("join")) return new Promise((answer) => {
      answerJoin = (id) => answer(new Response(JSON.stringify({ event_id: id })));
    });
    return new Response(new ReadableStream({ start: (stream) => { streams.push(stream); } }));
  };
"""

PAGE = """
  const heard = [];
  const listen = async () => {
    const reader = (await fetch("/queue/data?session_hash=s")).body.getReader();
    for (let part; !(part = await reader.read()).done;) {
      for (const line of new TextDecoder().decode(part.value).split("\\n\\n").filter(Boolean)) {
        heard.push(JSON.parse(line.slice(6)).msg);
        if (heard.at(-1) === "close_stream") return heard;
      }
    }
  };
"""


def heard(browser: Browser, story: str) -> list[str]:
    """What the page hears in the course of a story told in JavaScript."""
    page = browser.new_page()
    try:
        return page.evaluate(f"async () => {{ {SERVER} {SCRIPT.read_text()} {PAGE} {story} }}")
    finally:
        page.close()


def test_an_event_sent_while_the_server_shuts_the_stream_is_heard_to_its_end(browser):
    assert heard(
        browser,
        """
        const all = listen();
        const joined = fetch("/queue/join?", {});
        message(streams[0], { msg: "process_completed", event_id: "before" });
        message(streams[0], { msg: "close_stream" });
        streams[0].close();
        answerJoin("late");
        await joined;
        while (streams.length < 2 && !heard.includes("close_stream")) await new Promise(requestAnimationFrame);
        message(streams[1], { msg: "process_completed", event_id: "late" });
        message(streams[1], { msg: "close_stream" });
        return await all;
        """,
    ) == ["process_completed", "process_completed", "close_stream"]


def test_a_stream_with_nothing_pending_is_shut_as_the_server_says(browser):
    assert heard(
        browser,
        """
        const joined = fetch("/queue/join?", {});
        answerJoin("only");
        await joined;
        const all = listen();
        while (!streams.length) await new Promise(requestAnimationFrame);
        message(streams[0], { msg: "process_completed", event_id: "only" });
        message(streams[0], { msg: "close_stream" });
        return await all;
        """,
    ) == ["process_completed", "close_stream"]
