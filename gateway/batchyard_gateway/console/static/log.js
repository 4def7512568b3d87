// Log: the viewer of one attempt's log. Slices come from the gateway as they are shown; nothing is read here but their text.

const LINES_MAX = 10_000;
const AGAIN_MS = 1_000;

/** @param {string} id @returns {any} */
const by = (id) => document.getElementById(id);
const log = by("log");
const [follow, wrap, text, only, found] = ["log-follow", "log-wrap", "log-text", "log-only", "log-found"].map(by);

let isFollowing = false;
let timer = 0;
let fetching = Promise.resolve();
/** What was answered last, to be told when nothing is new. */
let last = { url: "", tag: "" };

const lines = () => [...log.querySelectorAll(".line")];
const atBottom = () => log.scrollHeight - log.scrollTop - log.clientHeight < 40;

/** Fetch a slice. @param {string} url @returns {Promise<Element | null>} null: nothing is new, or the gateway does not answer */
async function slice(url) {
  try {
    const headers = last.url === url ? { "If-None-Match": last.tag } : {};
    const answer = await fetch(`${url}&part=lines`, { headers });
    if (answer.status !== 304) document.body.dispatchEvent(new CustomEvent("live-answer", { detail: answer.status }));
    if (answer.status === 401) stop("");
    if (answer.status !== 200) return null;
    last = { url, tag: answer.headers.get("ETag") };
    const holder = document.createElement("template");
    holder.innerHTML = await answer.text();
    return holder.content.firstElementChild;
  } catch {
    return null;
  }
}

// More of it ---------------------------------------------------------------------

async function newer() {
  const before = log.lastElementChild;
  const next = await slice(before.dataset.next);
  if (!next) return;
  const sticks = atBottom();
  for (const old of before.querySelectorAll(".open, .none")) old.remove();
  log.append(next);
  if (!before.querySelector(".line")) before.remove();
  while (log.children.length > 1 && lines().length > LINES_MAX) log.firstElementChild.remove();
  mark(next);
  if (sticks) log.scrollTop = log.scrollHeight;
  ends(next);
}

async function older() {
  const first = log.firstElementChild;
  const next = await slice(first.dataset.older);
  if (!next) return;
  const height = log.scrollHeight;
  log.prepend(next);
  log.scrollTop += log.scrollHeight - height;
  while (log.children.length > 1 && lines().length > LINES_MAX) {
    log.lastElementChild.remove();
    delete log.dataset.tail;
    stop("Newer lines were let go: to the bottom shows them again.");
  }
  if ("numbered" in next.dataset) number();
  mark(next);
  by("log-older").hidden = !next.dataset.older;
}

/** The beginning is loaded: all lines have numbers now. */
function number() {
  let count = 0;
  for (const line of log.querySelectorAll(".line:not(.more)")) line.firstChild.textContent = ++count;
  const end = log.lastElementChild;
  if (!end.querySelector(".open")) end.dataset.next = end.dataset.next.replace(/&line=\d+|$/, `&line=${count + 1}`);
}

/** One at a time. @param {() => Promise<void>} work */
function queue(work) {
  fetching = fetching.then(work);
  return fetching;
}

// Following ----------------------------------------------------------------------

async function again() {
  if (!isFollowing) return;
  const from = log.lastElementChild.dataset.next;
  if (!document.hidden) await queue(newer);
  // A whole slice came: there may be more already.
  const isBehind = log.lastElementChild.querySelectorAll(".line").length > 500 && from !== log.lastElementChild.dataset.next;
  if (isFollowing) timer = setTimeout(again, isBehind ? 0 : AGAIN_MS);
}

/** @param {HTMLElement} end the last slice */
function ends(end) {
  if (!("over" in end.dataset)) return;
  const way = end.dataset.over;
  const wasFollowing = isFollowing;
  stop("The attempt has ended: this is all of its log.");
  // Whoever follows the latest attempt goes on with the next one.
  if (way !== "-" && wasFollowing && "latest" in log.dataset) location.replace(way);
}

function start() {
  if (!("tail" in log.dataset)) return location.assign(by("log-bottom").href);
  isFollowing = true;
  follow.setAttribute("aria-pressed", "true");
  by("log-state").textContent = "Following";
  log.scrollTop = log.scrollHeight;
  again();
}

/** @param {string} why */
function stop(why) {
  isFollowing = false;
  clearTimeout(timer);
  follow.setAttribute("aria-pressed", "false");
  by("log-state").textContent = why;
}

// Searching ----------------------------------------------------------------------

let now = null;

/** Mark the lines that match. @param {ParentNode} [root] only what was loaded now */
function mark(root = log) {
  const sought = text.value.toLowerCase();
  for (const line of root.querySelectorAll(".line")) {
    line.classList.toggle("hit", sought !== "" && line.lastChild.textContent.toLowerCase().includes(sought));
  }
  log.classList.toggle("only", only.checked && sought !== "");
  const hits = [...log.querySelectorAll(".hit")];
  const place = hits.indexOf(now) + 1;
  found.textContent = sought === "" ? "" : `${place ? `${place} of ` : ""}${hits.length} ${hits.length === 1 ? "line" : "lines"}`;
}

/** @param {number} step */
function go(step) {
  const hits = [...log.querySelectorAll(".hit")];
  if (!hits.length) return;
  const place = hits.indexOf(now);
  point(hits[place < 0 ? (step < 0 ? hits.length - 1 : 0) : (place + step + hits.length) % hits.length]);
  mark();
}

/** Make a line the one that is spoken of. @param {Element} line */
function point(line) {
  now?.classList.remove("now");
  now = line;
  line.classList.add("now");
  line.scrollIntoView({ block: "center" });
  by("log-link").dataset.text = line.firstChild.href;
  by("log-link").disabled = false;
}

// Controls -----------------------------------------------------------------------

follow.addEventListener("click", () => { if (isFollowing) stop(""); else start(); });
by("log-next").addEventListener("click", () => go(1));
by("log-previous").addEventListener("click", () => go(-1));
text.addEventListener("input", () => mark());
only.addEventListener("change", () => mark());
text.addEventListener("keydown", (event) => { if (event.key === "Enter") go(event.shiftKey ? -1 : 1); });
by("log-older")?.addEventListener("click", (event) => { event.preventDefault(); queue(older); });
by("log-newer")?.addEventListener("click", (event) => { event.preventDefault(); queue(newer); });
by("log-top").addEventListener("click", (event) => {
  if (log.firstElementChild.dataset.older) return;
  event.preventDefault();
  log.scrollTop = 0;
});
by("log-bottom").addEventListener("click", (event) => {
  if (!("tail" in log.dataset)) return;
  event.preventDefault();
  log.scrollTop = log.scrollHeight;
});
wrap.addEventListener("click", () => {
  const isWrapped = !log.classList.toggle("straight");
  wrap.setAttribute("aria-pressed", String(isWrapped));
});
log.addEventListener("click", (event) => {
  const link = event.target.closest(".line > a");
  if (!link || event.ctrlKey || event.metaKey || event.shiftKey) return;
  event.preventDefault();
  history.replaceState(null, "", link.href);
  point(link.parentElement);
});
document.body.addEventListener("live-jobs", () => { if (isFollowing && !timer) again(); });

follow.hidden = wrap.hidden = by("log-search").hidden = false;
const named = location.hash && by(location.hash.slice(1));
if (named) point(named);
else if ("tail" in log.dataset) log.scrollTop = log.scrollHeight;
if ("tail" in log.dataset && !("over" in log.lastElementChild.dataset) && !named) start();
