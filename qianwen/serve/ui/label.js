/* Keys of the label page. Loaded from this server; every action is a button of the form. */
"use strict";
const KEYS = { k: "keep", d: "drop", f: "flag", j: "next", ArrowRight: "next", ArrowLeft: "previous", 1: "prefer-a", 2: "prefer-b", 3: "prefer-equal" };
const isField = (node) => ["TEXTAREA", "INPUT", "SELECT"].includes(node.tagName);
document.addEventListener("keydown", (event) => {
  if (event.isComposing || event.altKey || event.metaKey) return;
  if (event.key === "Enter" && event.ctrlKey) return document.getElementById("save").click();
  if (event.key === "Escape") return document.activeElement.blur();
  if (event.ctrlKey || isField(event.target)) return;
  document.getElementById(KEYS[event.key])?.click();
});
for (const box of document.querySelectorAll("textarea")) box.rows = Math.min(24, Math.max(2, Math.ceil(box.value.length / 90) + box.value.split("\n").length));
