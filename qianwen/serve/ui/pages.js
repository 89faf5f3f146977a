/* The little that Gradio has no setting for. Loaded before it, from this server, as a file. */
"use strict";

const words = JSON.parse(document.documentElement.dataset.words);

// Gradio speaks the browser's language, the rest of the page the server's: both speak the server's.
const language = document.documentElement.lang === "zh-Hans" ? "zh-CN" : "en";
Object.defineProperty(navigator, "language", { get: () => language });
Object.defineProperty(navigator, "languages", { get: () => [language] });

// Escape ends the answer that is being written.
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape") document.querySelector("#question .stop-button")?.click();
});

// What was typed but not sent is there again when the page is, whoever left it: Gradio loads it anew after a lost server.
const draftOf = `draft of ${words.visitor}`;
const question = () => document.querySelector("#question textarea");
addEventListener("pagehide", () => {
  if (question()?.value) sessionStorage.setItem(draftOf, question().value);
});
function restoreDraft() {
  const draft = sessionStorage.getItem(draftOf);
  if (!draft || !question()) return;
  sessionStorage.removeItem(draftOf);
  question().value = draft;
  question().dispatchEvent(new Event("input", { bubbles: true }));
}

// The address names what is open, so that loading it again opens it again.
let isOpen = false;
function keepAddress() {
  const chosen = document.querySelector("#kept input:checked");
  if (chosen) {
    isOpen = true;
    history.replaceState(history.state, "", `?open=${encodeURIComponent(chosen.value)}`);
  } else if (isOpen && !document.querySelector("#title")) {
    isOpen = false;
    history.replaceState(history.state, "", location.pathname);
  }
}

// On a phone a sidebar covers the conversation: it is closed at first, and again once something was chosen in it.
const isNarrow = matchMedia("(max-width: 767px)");
function closeLeft() {
  const handle = document.querySelector("#left.open .toggle-button");
  if (isNarrow.matches) handle?.click();
  return handle !== null;
}
let hasArrived = false;
document.addEventListener("click", (event) => {
  if (event.target.closest("#new, #kept label")) closeLeft();
});

// What Gradio leaves unnamed for those who listen to a page instead of looking at it.
function describe(selector, attributes) {
  for (const element of document.querySelectorAll(selector)) {
    for (const [key, value] of Object.entries(attributes)) {
      if (element.getAttribute(key) !== value) element.setAttribute(key, value);
    }
  }
}
function nameAll() {
  describe("#chat .examples", { role: "group" }); // Gradio's list holds buttons, which a list may not
  describe("#left .toggle-button", { "aria-label": words.conversations });
  describe("#right .toggle-button", { "aria-label": words.settings });
  describe("#question .submit-button", { "aria-label": words.send });
  describe("#question .stop-button", { "aria-label": words.stop });
}

// What Gradio says in English alone: the beginnings of labels, and notices of its own.
const spoken = Object.entries(words.spoken).filter(([english, ours]) => english !== ours);
const translated = (said) => {
  const found = spoken.find(([english]) => said.startsWith(english));
  return found ? found[1] + said.slice(found[0].length) : said;
};
function speakAll() {
  for (const attribute of spoken.length > 0 ? ["aria-label", "title"] : []) {
    for (const element of document.querySelectorAll(`[${attribute}]`)) {
      const said = element.getAttribute(attribute);
      if (translated(said) !== said) element.setAttribute(attribute, translated(said));
    }
  }
  const notices = document.querySelectorAll(".toast-title-row span, [data-testid=toast-text]");
  for (const text of [...notices].flatMap((element) => [...element.childNodes])) {
    const ours = text.nodeType === Node.TEXT_NODE && words.notices[text.data.trim()];
    if (ours && ours !== text.data) text.data = ours;
  }
}

let isDue = false; // at most once a frame, however much changes
new MutationObserver(() => {
  if (isDue) return;
  isDue = true;
  requestAnimationFrame(() => {
    isDue = false;
    nameAll();
    speakAll();
    restoreDraft();
    keepAddress();
    hasArrived ||= closeLeft();
  });
}).observe(document, { childList: true, subtree: true });
