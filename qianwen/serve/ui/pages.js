/* Small changes for which Gradio has no setting. This file is loaded from this server, before Gradio. */
"use strict";

const words = JSON.parse(document.documentElement.dataset.words);

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

// Put the open conversation into the address, so that a reload opens it again.
let isOpen = false;
function updateAddress() {
  const chosen = document.querySelector("#history input:checked");
  if (chosen) {
    isOpen = true;
    history.replaceState(history.state, "", `?open=${encodeURIComponent(chosen.value)}`);
  } else if (isOpen && !document.querySelector("#title")) {
    isOpen = false;
    history.replaceState(history.state, "", location.pathname);
  }
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
    updateAddress();
    isLoaded ||= closeLeft();
  });
}).observe(document, { childList: true, subtree: true });
