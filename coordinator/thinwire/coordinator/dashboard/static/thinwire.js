"use strict";
// What is marked `data-live` is asked for again when something has happened, and takes the place of what was there.
(() => {
  const page = document.body;
  const said = document.getElementById("live");
  let asked = false, again = false, timer = 0;

  function localTimes(root) {
    for (const time of root.querySelectorAll("time[datetime]")) {
      const at = new Date(time.dateTime), today = at.toDateString() === new Date().toDateString();
      time.title = at.toLocaleString();
      time.textContent = today ? at.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit", second: time.dataset.seconds ? "2-digit" : undefined })
        : at.toLocaleString([], { dateStyle: "medium", timeStyle: "short" });
    }
  }

  function take(fresh, old) {
    const isSame = fresh.outerHTML === old.dataset.was;
    const focused = old.contains(document.activeElement) ? document.activeElement : null;
    if (isSame || (focused && /^(INPUT|SELECT|TEXTAREA)$/.test(focused.tagName))) return;
    const reach = "a[href], button, summary";
    const place = focused ? [...old.querySelectorAll(reach)].indexOf(focused) : -1;
    const open = new Set([...old.querySelectorAll("details[open]")].map(one => one.id));
    const ticked = new Set([...old.querySelectorAll("input:checked")].map(one => one.value));
    const made = document.importNode(fresh, true);
    made.dataset.was = fresh.outerHTML;
    for (const one of made.querySelectorAll("details")) if (open.has(one.id)) one.open = true;
    for (const one of made.querySelectorAll("input[type=checkbox]")) if (ticked.has(one.value)) one.checked = true;
    localTimes(made);
    old.replaceWith(made);
    if (place >= 0) made.querySelectorAll(reach)[place]?.focus();
  }

  async function look() {
    if (asked) { again = true; return; }
    asked = true;
    try {
      const response = await fetch(location.href, { headers: { accept: "text/html" } });
      if (response.ok && !response.redirected) {
        const fresh = new DOMParser().parseFromString(await response.text(), "text/html");
        for (const one of fresh.querySelectorAll("[data-live]")) {
          const old = document.getElementById(one.id);
          if (old) take(one, old);
        }
        document.dispatchEvent(new Event("thinwire:fresh"));
      }
    } catch { /* the coordinator is away: the events say when it is back */ }
    asked = false;
    if (again) { again = false; soon(); }
  }

  function soon() {
    if (timer) return;
    timer = setTimeout(() => { timer = 0; look(); }, 400);
  }

  function tell(state, text) {
    if (said) { said.className = `live ${state}`; said.textContent = text; }
  }

  function listen() {
    const run = page.dataset.run;
    const source = new EventSource(page.dataset.events);
    const hear = event => { if (!run || JSON.parse(event.data).run === run) soon(); };
    for (const kind of ["run", "answer", "exchange"]) source.addEventListener(kind, hear);
    let lost = false;
    source.onopen = () => { tell("on", "live"); if (lost) { lost = false; soon(); } };
    source.onerror = () => {
      lost = true;
      tell("off", "reconnecting");
      if (source.readyState === EventSource.CLOSED) setTimeout(listen, 3000);
    };
    addEventListener("pagehide", () => source.close());
  }

  // How many problems there are, beside the page's name.
  async function count() {
    const link = document.querySelector('nav.main a[href="/problems"]');
    try {
      const response = await fetch("/v1/problems", { headers: { accept: "application/json" } });
      if (!response.ok || !link) return;
      const found = (await response.json()).problems.filter(one => one.severity !== "notice");
      link.querySelector(".badge")?.remove();
      if (!found.length) return;
      const badge = document.createElement("span");
      badge.className = found.some(one => one.severity === "error") ? "badge" : "badge warning";
      badge.textContent = found.length;
      link.append(" ", badge);
    } catch { /* asked again in a while */ }
  }

  localTimes(document);
  if (page.dataset.counts) { count(); setInterval(() => { if (!document.hidden) count(); }, 5000); }
  if (page.dataset.events) listen();
  if (page.dataset.every && !page.dataset.events) tell("on", "live");
  if (page.dataset.every) setInterval(() => { if (!document.hidden) look(); }, 1000 * page.dataset.every);

  document.addEventListener("click", async event => {
    const button = event.target.closest("button[data-copy]");
    if (!button) return;
    const text = document.getElementById(button.dataset.copy).textContent;
    try { await navigator.clipboard.writeText(text); button.textContent = "copied"; } catch { getSelection().selectAllChildren(document.getElementById(button.dataset.copy)); }
  });
  document.addEventListener("submit", event => {
    const question = event.target.dataset.ask;
    if (question && !confirm(question)) event.preventDefault();
  });
})();
