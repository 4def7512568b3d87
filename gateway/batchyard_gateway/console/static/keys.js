// Keys and small comforts: shortcuts, copy buttons, the reader's time zone. Every shortcut is that of a visible control.

const zone = Intl.DateTimeFormat().resolvedOptions().timeZone;
if (zone) {
  document.cookie = `batchyard-zone=${encodeURIComponent(zone)}; path=/console; samesite=strict; max-age=31536000`;
}

/** Buttons that copy: what an element says, a text of their own, or the id of their row. */
const COPIES = "[data-copy], [data-text], [data-row]";

/** @param {ParentNode} root */
function dress(root) {
  for (const button of root.querySelectorAll(COPIES)) button.hidden = false;
}

async function copy(button) {
  const { text: own, copy: from } = button.dataset;
  const text = own ?? (from ? document.getElementById(from).textContent : button.closest("tr").querySelector("[name=id]").value);
  const isCopied = await navigator.clipboard.writeText(text).then(() => true, () => false); // a browser may deny it
  const label = button.firstChild;
  const before = (button.dataset.label ??= label.textContent); // of a second click too
  label.textContent = isCopied ? "Copied" : "Not copied";
  setTimeout(() => { label.textContent = before; }, 1500);
}

let pending = "";

/** @param {KeyboardEvent} event */
function press(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest("input, textarea, select, dialog")) return;
  const keys = `${pending} ${event.key}`.trim();
  pending = event.key === "g" ? "g" : "";
  if (event.key === "?") return show();
  const control = document.querySelector(`[data-key="${CSS.escape(keys)}"]`);
  if (!control) return;
  event.preventDefault();
  if (control.matches("input")) control.focus(); else control.click();
}

function show() {
  const dialog = document.getElementById("shortcuts");
  const list = dialog.querySelector("dl");
  list.replaceChildren(...[...document.querySelectorAll("[data-key]")].flatMap((control) => {
    const [key, what] = [document.createElement("dt"), document.createElement("dd")];
    key.textContent = control.dataset.key;
    what.textContent = control.textContent.trim() || control.labels[0].textContent;
    return [key, what];
  }));
  dialog.showModal();
}

document.addEventListener("keydown", press);
document.addEventListener("click", (event) => {
  const button = event.target.closest(COPIES);
  if (button) copy(button);
});
document.addEventListener("htmx:after:swap", () => dress(document));
document.getElementById("show-shortcuts").hidden = false;
document.getElementById("show-shortcuts").addEventListener("click", show);
dress(document);
document.getElementById("faults")?.focus();
