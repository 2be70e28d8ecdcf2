// The server shuts a page's stream of events once nothing is pending. Gradio's page forgets an event that it sent in
// that very moment, a click for example: nothing is heard of it again, and its button stays dead. Here the stream goes
// on, by another request to the same address, while an event that was sent is not completed.
(() => {
  "use strict";
  const plainFetch = window.fetch.bind(window);
  const pending = new Set(), completed = new Set();
  let sending = 0;

  const send = async (request, options) => {
    sending += 1;
    try {
      const reply = await plainFetch(request, options);
      const { event_id: id } = reply.ok ? await reply.clone().json() : {};
      if (id && !completed.delete(id)) pending.add(id);
      return reply;
    } finally {
      sending -= 1;
    }
  };

  const isForThePage = (text) => {
    const message = JSON.parse(text.slice(text.indexOf("{")));
    if (message.msg === "process_completed" && !pending.delete(message.event_id)) completed.add(message.event_id);
    return message.msg !== "close_stream" || (!sending && !pending.size);
  };
  const readerOf = (reply) => reply.body.pipeThrough(new TextDecoderStream()).getReader();

  const follow = async (request, options) => {
    const first = await plainFetch(request, options);
    if (!first.ok) return first;
    let reader = readerOf(first), unread = "";
    const bytes = new TextEncoder();
    const pull = async (page) => {
      for (let given = 0; !given;) {
        const { value, done } = await reader.read();
        if (done) return page.close();
        const texts = (unread + value).split("\n\n");
        unread = texts.pop();
        for (const text of texts) {
          if (!isForThePage(text)) reader = readerOf(await plainFetch(request, options));
          else { page.enqueue(bytes.encode(text + "\n\n")); given += 1; }
        }
      }
    };
    return new Response(new ReadableStream({ pull, cancel: () => reader.cancel() }), first);
  };

  // Pages ask by themselves every few seconds. The server is told when nobody has touched one for a minute, so that
  // these requests do not keep a session from ending.
  const UNTOUCHED_MS = 60000;
  let touched = Date.now();
  for (const act of ["pointerdown", "keydown", "wheel", "touchstart"])
    addEventListener(act, () => { touched = Date.now(); }, { capture: true, passive: true });
  const marked = (options = {}) => {
    if (Date.now() - touched < UNTOUCHED_MS) return options;
    const headers = new Headers(options.headers);
    headers.set("x-medx-unattended", "1");
    return { ...options, headers };
  };

  window.fetch = (request, options) => {
    const address = String(request.url || request);
    if (address.includes("/queue/join")) return send(request, marked(options));
    return address.includes("/queue/data") ? follow(request, marked(options)) : plainFetch(request, options);
  };
})();
