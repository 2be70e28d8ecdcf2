// Light or dark, and the keys of the review page. No request is made from here.
(() => {
  "use strict";
  const KEY = "medx-shade";
  const wanted = () => localStorage.getItem(KEY) ||
    (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light");
  const apply = () => {
    const dark = wanted() === "dark";
    if (document.body.classList.contains("dark") !== dark) document.body.classList.toggle("dark", dark);
    document.documentElement.style.colorScheme = dark ? "dark" : "light";
  };
  const start = () => {
    apply();
    new MutationObserver(apply).observe(document.body, { attributes: true, attributeFilter: ["class"] });
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", apply);
  };
  if (document.body) start(); else addEventListener("DOMContentLoaded", start);
  document.addEventListener("click", (event) => {
    if (!event.target.closest || !event.target.closest("[data-medx=shade]")) return;
    localStorage.setItem(KEY, wanted() === "dark" ? "light" : "dark");
    apply();
  });

  // ---- review: number keys answer the highlighted field and move on
  const shown = (element) => element && element.offsetParent !== null;
  const fields = () => [...document.querySelectorAll(".medx-field")].filter(shown);
  const choices = (field) => [...field.querySelectorAll("input[type=radio]")];
  const highlight = (field) => {
    fields().forEach((other) => other.classList.toggle("current", other === field));
    if (field) field.scrollIntoView({ block: "nearest" });
  };
  const current = () => fields().find((field) => field.classList.contains("current"));
  const next = (field) => {
    const all = fields();
    return all.slice(all.indexOf(field) + 1).find((one) => !choices(one).some((c) => c.checked)) || null;
  };
  const press = (id) => {
    const element = document.getElementById(id);
    const button = element && (element.matches("button") ? element : element.querySelector("button"));
    if (shown(button)) button.click();
  };
  window.medxReview = () => setTimeout(() => highlight(fields()[0] || null), 60);
  document.addEventListener("focusin", (event) => {
    const field = event.target.closest && event.target.closest(".medx-field");
    if (field) highlight(field);
  });
  document.addEventListener("change", (event) => {
    const field = event.target.closest && event.target.closest(".medx-field");
    if (field && event.target.type === "radio") highlight(next(field));
  });
  const writing = (element) => element.matches("textarea, select, [contenteditable=true]") ||
    (element.matches("input") && element.type !== "radio" && element.type !== "checkbox");
  document.addEventListener("keydown", (event) => {
    if (!document.getElementById("medx-save") || event.ctrlKey || event.metaKey || event.altKey) return;
    const target = event.target;
    if (target.matches && writing(target)) {
      if (event.key === "Escape") target.blur();
      return;
    }
    if (/^[1-9]$/.test(event.key)) {
      const field = current() || fields()[0];
      const choice = field && choices(field)[Number(event.key) - 1];
      if (choice) { event.preventDefault(); choice.click(); }
    } else if (event.key === "Enter") {
      if (target.matches && target.matches("button, a, summary")) return;
      event.preventDefault(); press("medx-save");
    } else if (event.key === "Backspace" || event.key === "ArrowUp" || event.key === "ArrowDown") {
      const all = fields(), at = all.indexOf(current());
      const to = all[Math.max(0, Math.min(all.length - 1, at + (event.key === "ArrowDown" ? 1 : -1)))];
      if (to && !(target.type === "radio" && event.key !== "Backspace")) { event.preventDefault(); highlight(to); }
    } else if (event.key.toLowerCase() === "s") press("medx-skip");
    else if (event.key.toLowerCase() === "c") press("medx-cannot");
  });
})();
