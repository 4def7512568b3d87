// Live: one stream of events a tab. An event says "look again"; what is shown is read from the gateway, part by part.

const ROOT = "/console";
const AGAIN_MS = 10_000;
const SAID_MS = 10_000;
const AWAY_MS = 4_000;

const body = document.body;
const bar = document.getElementById("away");
const topics = (body.dataset.topics ?? "").split(",").filter(Boolean);
/** What each element shows, as the gateway names it. @type {WeakMap<Element, string>} */
const tags = new WeakMap();

/** @type {EventSource | null} */
let source = null;
let place = body.dataset.since ?? "";
let heard = new Date();
let isOver = false;
let timer = 0;

/** The jobs that rows show, as their boxes name them: an address with all of them is longer than the rows. @param {ParentNode} within */
const shown = (within) => [...within.querySelectorAll("[name=id]")].map((box) => box.value);

/** Say to all parts of the page that they may look again. @param {string[]} names */
function look(names) {
  for (const name of names) body.dispatchEvent(new CustomEvent(`live-${name}`));
}

/** @param {string} text @param {string} [way] where a link leads @param {string} [word] */
function grey(text, way, word) {
  document.documentElement.classList.add("stale");
  if (bar.dataset.text === text) return;
  bar.dataset.text = text;
  bar.replaceChildren(`${text} `);
  if (way) {
    const link = document.createElement("a");
    [link.href, link.textContent] = [way, word];
    bar.append(link);
  }
  bar.hidden = false;
}

function clear() {
  document.documentElement.classList.remove("stale");
  bar.hidden = true;
  delete bar.dataset.text;
}

function over() {
  isOver = true;
  close();
  const here = encodeURIComponent(location.pathname + location.search);
  grey("You are signed out. What you see is from before.", `${ROOT}/sign-in?next=${here}`, "Sign in again");
}

function silent() {
  grey(`The gateway has not answered since ${heard.toLocaleTimeString()}. Jobs that run go on; this page tries again by itself.`);
}

/** Learn from an answer how things are. @param {number} status */
function answered(status) {
  if (status === 401) over();
  else if (source || isOver) return;  // the stream tells
  else if (status === 503) grey("The controller does not answer. Jobs that run go on; this page tries again by itself.");
  else clear();
}

function rest() {
  clearTimeout(timer);
  timer = 0;
}

function close() {
  rest();
  source?.close();
  source = null;
}

function open() {
  close();
  if (document.hidden || isOver || !topics.length) return;
  const query = new URLSearchParams({ topics: topics.join(","), ids: body.dataset.ids || shown(body).join(","), since: place });
  const stream = source = new EventSource(`${ROOT}/live?${query}`);
  stream.onopen = () => { rest(); clear(); };
  stream.onerror = () => {
    // The browser tries again by itself where it was cut off, and never where it was refused.
    if (stream.readyState === EventSource.CLOSED) return refused();
    if (!timer) [heard, timer] = [new Date(), setTimeout(silent, AWAY_MS)];
  };
  stream.addEventListener("look", (event) => { place = event.lastEventId; look(event.data.split(" ")); });
  stream.addEventListener("stale", (event) => {
    grey(`The controller has not answered since ${event.data}. Jobs that run go on; what you see is from then.`);
  });
  stream.addEventListener("fresh", clear);
  stream.addEventListener("ended", over);
}

/** There is no stream, as the session is over, or there are too many: then the page looks by itself. */
async function refused() {
  close();
  try {
    answered((await fetch(`${ROOT}/counts?part=totals`)).status);
  } catch {
    silent();
  }
  if (isOver) return;
  look(topics);
  if (body.dataset.ids) look(["jobs"]);
  timer = setTimeout(open, AGAIN_MS);
}

// What was fetched ---------------------------------------------------------------

body.addEventListener("htmx:config:request", (event) => {
  const { ctx } = event.detail;
  const tag = ctx.sourceElement.dataset.live && tags.get(ctx.target);
  if (tag) ctx.request.headers["If-None-Match"] = tag;
  const { sourceElement: element } = ctx;
  if ("shown" in element.dataset) ctx.request.body.set("ids", shown(element.matches("tbody") ? element : body).join(" "));
});

body.addEventListener("htmx:before:response", (event) => {
  const { ctx } = event.detail;
  if (!ctx.sourceElement.dataset.live) return;
  const { status, headers } = ctx.response;
  answered(status);
  if (status === 200) tags.set(ctx.target, headers.get("ETag"));
  else event.preventDefault();
  // The word to look was heard and is not said twice.
  if (status >= 500 && source) setTimeout(look, AGAIN_MS, [ctx.sourceElement.dataset.live]);
});

body.addEventListener("live-answer", (event) => answered(event.detail));

// What a reader has opened stays open: no answer of the gateway knows of it.
globalThis.htmx?.registerExtension("live", { htmx_before_morph_attr: (element, { attrName }) => attrName !== "open" });

// What is said -------------------------------------------------------------------

/** @type {{ended: number, failed: number} | null} */
let said = null;
let saying = 0;

function say() {
  saying = 0;
  const now = { ...body.querySelector("[data-ended]").dataset };
  const [ended, failed] = [now.ended - said.ended, now.failed - said.failed];
  said = now;
  if (ended > 0) {
    document.getElementById("said").textContent = `${ended} ${ended === 1 ? "job" : "jobs"} ended, ${Math.max(0, failed)} failed`;
  }
}

body.addEventListener("htmx:after:swap", () => {
  const counts = body.querySelector("[data-ended]");
  if (!counts || !("says" in body.dataset)) return;
  if (!said) said = { ...counts.dataset };
  else if (!saying && counts.dataset.ended !== said.ended) saying = setTimeout(say, SAID_MS);
});

document.addEventListener("visibilitychange", open);
addEventListener("pagehide", close);
addEventListener("pageshow", (event) => { if (event.persisted) open(); });
open();
