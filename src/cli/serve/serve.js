"use strict";
// Keeps a page up to date: asks for it again and replaces the parts that have changed.
const every = 1000;
const compare = document.getElementById("compare");

function chosen() {
  return [...document.querySelectorAll("#compare input:checked")].map((box) => box.value);
}

function offerComparison() {
  if (compare) compare.querySelector("button").disabled = chosen().length !== 2;
}

function replace(page) {
  const kept = new Set(compare ? chosen() : []);
  for (const part of page.querySelectorAll("[data-part]")) {
    const old = document.querySelector(`[data-part="${part.dataset.part}"]`);
    if (!old || old.outerHTML === part.outerHTML) continue;
    const focused = old.contains(document.activeElement) ? document.activeElement : null;
    const selector = focused && (focused.getAttribute("href") ? `[href="${CSS.escape(focused.getAttribute("href"))}"]` : focused.value ? `[value="${CSS.escape(focused.value)}"]` : null);
    old.replaceWith(part);
    if (selector) part.querySelector(selector)?.focus({ preventScroll: true });
  }
  document.querySelectorAll("#compare input[name=run]").forEach((box) => (box.checked = kept.has(box.value)));
  offerComparison();
}

async function refresh() {
  const answer = await fetch(location.href, { cache: "no-store" });
  if (!answer.ok) throw new Error(answer.statusText);
  const page = new DOMParser().parseFromString(await answer.text(), "text/html");
  replace(page);
  if (page.body.dataset.live !== "yes") delete document.body.dataset.live;
}

async function append(log) {
  const answer = await fetch(`${log.dataset.source}&from=${log.dataset.from}`, { cache: "no-store" });
  if (!answer.ok) throw new Error(answer.statusText);
  const text = await answer.text();
  log.dataset.from = answer.headers.get("x-next");
  if (answer.headers.get("x-ended") === "yes") delete document.body.dataset.live;
  if (text === "") return;
  const atEnd = log.scrollTop + log.clientHeight >= log.scrollHeight - 8;
  log.append(text);
  if (atEnd) log.scrollTop = log.scrollHeight;
}

async function tick() {
  if (document.body.dataset.live === "yes" && !document.hidden) {
    const log = document.getElementById("log");
    const offline = document.getElementById("offline");
    try {
      await (log ? append(log) : refresh());
      offline.hidden = true;
    } catch {
      offline.hidden = false;
    }
  }
  setTimeout(tick, every);
}

compare?.addEventListener("change", offerComparison);
offerComparison();
const log = document.getElementById("log");
if (log) log.scrollTop = log.scrollHeight;
setTimeout(tick, every);
