/* The little that Gradio has no setting for. Loaded before it, from this server, as a file. */
"use strict";

// Gradio speaks the browser's language, the rest of the page the server's: both speak the server's.
const language = document.documentElement.lang === "zh-Hans" ? "zh-CN" : "en";
Object.defineProperty(navigator, "language", { get: () => language });
Object.defineProperty(navigator, "languages", { get: () => [language] });

// Escape ends the answer that is being written.
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape") document.querySelector("#question .stop-button")?.click();
});

// What Gradio leaves unnamed for those who listen to a page instead of looking at it.
function name(selector, attributes) {
  for (const element of document.querySelectorAll(selector)) {
    for (const [key, value] of Object.entries(attributes)) {
      if (element.getAttribute(key) !== value) element.setAttribute(key, value);
    }
  }
}
const words = JSON.parse(document.documentElement.dataset.words);
new MutationObserver(() => {
  name("#chat .examples", { role: "group" }); // Gradio's list holds buttons, which a list may not
  name("#left .toggle-button", { "aria-label": words.conversations });
  name("#right .toggle-button", { "aria-label": words.settings });
  name("#question .submit-button", { "aria-label": words.send });
  name("#question .stop-button", { "aria-label": words.stop });
}).observe(document, { childList: true, subtree: true });
