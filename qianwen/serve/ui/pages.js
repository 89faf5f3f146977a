/* Small changes for which Gradio has no setting. This file is loaded from this server, before Gradio. */
"use strict";

const words = JSON.parse(document.documentElement.dataset.words);
const lostNotice = "Connection to the server was lost. Attempting reconnection...";

// Gradio uses the browser's language, but the rest of the page the server's. Make Gradio use the server's, too.
const language = document.documentElement.lang === "zh-Hans" ? "zh-CN" : "en";
Object.defineProperty(navigator, "language", { get: () => language });
Object.defineProperty(navigator, "languages", { get: () => [language] });

// Escape stops the current answer.
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape") document.querySelector("#question .stop-button")?.click();
});

// Keep a question that was typed but not sent when the page is reloaded; Gradio reloads it after a lost connection.
const draftOf = `draft of ${words.owner}`;
const question = () => document.querySelector("#question textarea");
function setText(box, text) {
  if (!box || box.value === text) return;
  box.value = text;
  box.dispatchEvent(new Event("input", { bubbles: true }));
}
const setQuestion = (text) => setText(question(), text);
addEventListener("pagehide", () => {
  if (question()?.value) sessionStorage.setItem(draftOf, question().value);
});
function restoreDraft() {
  const draft = sessionStorage.getItem(draftOf);
  if (!draft || !question()) return;
  sessionStorage.removeItem(draftOf);
  setQuestion(draft);
}

// Empty the box at the moment in which its question is sent, so that what is typed right afterwards stays. A question
// that could not be sent, or that the server refused, comes back with its files, before what was typed in the meantime.
let sent = { text: "", files: [] };
const send = window.fetch;
window.fetch = async (resource, options) => {
  const isQuestion = String(resource?.url ?? resource).includes("/gradio_api/queue/join") && takeQuestion(options);
  const reply = send(resource, options);
  if (!isQuestion) return reply;
  try {
    const response = await reply;
    if (!response.ok) putBack();
    return response;
  } catch (error) {
    putBack();
    throw error;
  }
};
// Gradio reads the box some time after the key was pressed, so what was typed since is cut off from the request.
let pressed = "";
const notePressed = () => (pressed = question()?.value ?? "");
document.addEventListener("click", (event) => event.target.closest?.("#question .submit-button") && notePressed(), true);
document.addEventListener(
  "keydown",
  (event) => event.key === "Enter" && !event.shiftKey && !event.isComposing && event.target === question() && notePressed(),
  true,
);
function takeQuestion(options) {
  const body = typeof options?.body === "string" ? JSON.parse(options.body) : {};
  const [read] = body.data ?? [];
  if (typeof read !== "string" || !read.trim() || !question()?.value.startsWith(read)) return false;
  const text = pressed.trim() && read.startsWith(pressed) ? pressed : read;
  body.data[0] = text;
  options.body = JSON.stringify(body);
  sent = { text, files };
  pressed = "";
  setQuestion(question().value.slice(text.length));
  setFiles([]);
  return true;
}
function putBack() {
  const typed = question()?.value ?? "";
  setQuestion(typed ? `${sent.text}\n${typed}` : sent.text);
  setFiles([...sent.files, ...files]);
}
let refusedAt;
function takeRefused() {
  const time = document.querySelector("#refused p")?.textContent;
  if (!time || time === refusedAt) return;
  refusedAt = time;
  putBack();
}

// Files become text on the server, which is kept here until the question is sent.
let files = [];
function setFiles(list) {
  files = list;
  const rows = files.map((file) => {
    const row = document.createElement("li");
    const remove = document.createElement("button");
    remove.type = "button";
    remove.textContent = "×";
    remove.setAttribute("aria-label", `${words.remove} ${file.name}`);
    remove.addEventListener("click", () => setFiles(files.filter((other) => other !== file)));
    row.append(file.line ?? file.name, remove);
    return row;
  });
  document.querySelector("#files")?.replaceChildren(...rows);
  const texts = files.filter((file) => file.text).map(({ name, text }) => ({ name, text }));
  setText(document.querySelector("#attached textarea, #attached input"), texts.length ? JSON.stringify(texts) : "");
}
async function attach(list) {
  for (const file of list) {
    const pending = { name: file.name, line: `${file.name} …` };
    setFiles([...files, pending]);
    const result = await textOf(file);
    setFiles(files.flatMap((other) => (other !== pending ? [other] : result.text ? [result] : [])));
    if (result.error) notify(`${file.name}: ${result.error.message}`);
  }
  question()?.focus();
}
async function textOf(file) {
  try {
    const response = await send(`/pages/text?name=${encodeURIComponent(file.name)}`, { method: "POST", body: file });
    return await response.json();
  } catch {
    return { error: { message: words.notices[lostNotice] } };
  }
}
document.addEventListener("change", (event) => {
  if (!event.target.matches?.("#attach input")) return;
  attach([...event.target.files]);
  event.target.value = ""; // so that the same file can be chosen again
});
const hasFiles = (data) => data?.types.includes("Files") && question();
document.addEventListener("dragover", (event) => hasFiles(event.dataTransfer) && event.preventDefault());
document.addEventListener("drop", (event) => {
  if (!hasFiles(event.dataTransfer)) return;
  event.preventDefault();
  attach([...event.dataTransfer.files]);
});
document.addEventListener("paste", (event) => {
  if (event.clipboardData?.files.length && event.target === question()) attach([...event.clipboardData.files]);
});
function notify(text) {
  const notice = document.createElement("p");
  notice.className = "notice";
  notice.setAttribute("role", "alert");
  notice.textContent = text;
  document.body.append(notice);
  setTimeout(() => notice.remove(), 8000);
}

// A growing answer is drawn again and again: keep the thoughts open that the user has opened, and closed those closed.
const thoughts = new Map();
const thoughtsOf = () => [...document.querySelectorAll("#chat details")];
document.addEventListener("click", (event) => {
  const thought = event.target.closest?.("#chat summary")?.parentElement;
  if (thought) thoughts.set(thoughtsOf().indexOf(thought), !thought.open);
  if (event.target.closest?.("#new, #history label")) thoughts.clear();
});
function keepThoughts() {
  for (const [index, isOpen] of thoughts) {
    const thought = thoughtsOf()[index];
    if (thought && thought.open !== isOpen) thought.open = isOpen;
  }
}

// Put the open conversation or run into the address, so that a reload opens it again. The path is given too, because a
// query alone is relative to the root of the pages.
let isOpen = false;
function updateAddress() {
  const chosen = document.querySelector("#history input:checked");
  if (chosen) {
    isOpen = true;
    history.replaceState(history.state, "", `${location.pathname}?open=${encodeURIComponent(chosen.value)}`);
  } else if (isOpen && !document.querySelector("#title")) {
    isOpen = false;
    history.replaceState(history.state, "", location.pathname);
  }
}

// Create or revoke the link to the open conversation.
document.addEventListener("click", async (event) => {
  const button = event.target.closest?.("#more [data-act]");
  const more = document.querySelector("#more");
  if (!button && more?.open && !more.contains(event.target)) more.open = false;
  if (!button) return;
  try {
    const response = await send(more.dataset.share, { method: button.dataset.act });
    const result = await response.json();
    if (result.error) return notify(result.error.message);
    more.querySelector("[data-act=POST]").hidden = Boolean(result.address);
    more.querySelector("p").hidden = !result.address;
    more.querySelector("p a").href = result.address ?? "";
  } catch {
    notify(words.notices[lostNotice]);
  }
});

// Upload a file of dialogues to fine-tune with; its id goes into a box that is not displayed.
const dialogues = () => document.querySelector("#dialogues");
async function uploadDialogues(file) {
  const output = dialogues().querySelector("output");
  const id = (text) => setText(document.querySelector("#upload textarea, #upload input"), text);
  output.textContent = `${file.name} …`;
  try {
    const response = await send("/pages/dialogues", { method: "POST", body: file });
    const result = await response.json();
    output.textContent = result.id ? `${file.name}: ${result.text}` : `${file.name}: ${result.error.message}`;
    output.className = result.id ? "" : "problem";
    id(result.id ?? "");
  } catch {
    output.textContent = words.notices[lostNotice];
  }
}
document.addEventListener("change", (event) => {
  if (!event.target.matches?.("#dialogues input") || !event.target.files.length) return;
  uploadDialogues(event.target.files[0]);
  event.target.value = "";
});
for (const kind of ["dragover", "drop"]) {
  document.addEventListener(kind, (event) => {
    if (!dialogues() || !event.dataTransfer?.types.includes("Files")) return;
    event.preventDefault();
    if (kind === "drop" && event.dataTransfer.files.length) uploadDialogues(event.dataTransfer.files[0]);
  });
}

// Follow a link that an action on a page has made: to a new run, or to the chat with a run's model.
let hasFollowed = false;
function follow() {
  const link = document.querySelector("#result a, #plan a");
  if (!link || hasFollowed) return;
  hasFollowed = true;
  location.assign(link.getAttribute("href"));
}

// On a phone the sidebar covers the conversation: close it at the start and after a choice.
const isNarrow = matchMedia("(max-width: 767px)");
function closeLeft() {
  const handle = document.querySelector("#left.open .toggle-button");
  if (isNarrow.matches) handle?.click();
  return handle !== null;
}
let isLoaded = false;
document.addEventListener("click", (event) => {
  if (event.target.closest("#new, #history label")) closeLeft();
});

// Labels that Gradio does not set, for users of screen readers.
function describe(selector, attributes) {
  for (const element of document.querySelectorAll(selector)) {
    for (const [key, value] of Object.entries(attributes)) {
      if (element.getAttribute(key) !== value) element.setAttribute(key, value);
    }
  }
}
function describeAll() {
  for (const message of document.querySelectorAll("#sides [data-testid][aria-label*='<']")) {
    const label = message.getAttribute("aria-label");
    const plain = label.replace(/<\/?(small|details|summary)[^>]*>/g, ""); // the markup of our notes and thoughts
    if (plain !== label) message.setAttribute("aria-label", plain);
  }
  describe("#chat .examples", { role: "group" }); // Gradio marks it as a list, but a list must not contain buttons
  describe("#left .toggle-button", { "aria-label": words.conversations });
  describe("#right .toggle-button", { "aria-label": words.settings });
  describe("#question .submit-button", { "aria-label": words.send });
  describe("#question .stop-button", { "aria-label": words.stop });
}

// Translate texts that Gradio has in English only: the start of labels, and its own notices.
const labels = Object.entries(words.labels).filter(([english, translation]) => english !== translation);
const translated = (label) => {
  const entry = labels.find(([english]) => label.startsWith(english));
  return entry ? entry[1] + label.slice(entry[0].length) : label;
};
function translateAll() {
  for (const attribute of labels.length > 0 ? ["aria-label", "title"] : []) {
    for (const element of document.querySelectorAll(`[${attribute}]`)) {
      const label = element.getAttribute(attribute);
      if (translated(label) !== label) element.setAttribute(attribute, translated(label));
    }
  }
  const notices = document.querySelectorAll(".toast-title-row span, [data-testid=toast-text]");
  for (const text of [...notices].flatMap((element) => [...element.childNodes])) {
    const translation = text.nodeType === Node.TEXT_NODE && words.notices[text.data.trim()];
    if (translation && translation !== text.data) text.data = translation;
  }
}

let isDue = false; // run at most once per frame, however many changes there are
new MutationObserver(() => {
  if (isDue) return;
  isDue = true;
  requestAnimationFrame(() => {
    isDue = false;
    describeAll();
    translateAll();
    restoreDraft();
    takeRefused();
    keepThoughts();
    updateAddress();
    follow();
    isLoaded ||= closeLeft();
  });
}).observe(document, { childList: true, subtree: true });
