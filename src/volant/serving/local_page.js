"use strict";
// The way through what a page asks. `page` says where one thing is had (`one`), how it is shown (`show`), what its own
// keys do (`key`, true where it did something), and, if it likes, what undoes (`undo`), what is shown while the next
// one is waited for (`waiting`), and what follows the first one (`started`). `begin()` is the page's last line.
const $ = id => document.getElementById(id);
let rater = "", now = null, seen = [], at = -1, skipped = [], busy = false;
const answered = async reply => {
  if (!reply.ok) throw new Error("the server answered " + reply.status);
  return reply.json();
};
const ask = async (path, values) => answered(await fetch(path + "?" + new URLSearchParams(values)));
const send = async (path, what) => answered(await fetch(path, {
  method: "POST", headers: {"content-type": "application/json"}, body: JSON.stringify({rater, ...what}),
}));
const guarded = work => async (...given) => {
  if (busy) return;
  busy = true;
  try { await work(...given); } catch (error) { $("told").textContent = "Not kept: " + error.message; }
  finally { busy = false; }
};
const button = (text, key, pressed, act) => {
  const made = document.createElement("button");
  if (key) { const shown = document.createElement("kbd"); shown.textContent = key; made.append(shown); }
  made.append(text); made.setAttribute("aria-pressed", pressed); made.onclick = act; return made;
};
function show(told) {
  now = told;
  $("work").hidden = !told.id; $("end").hidden = !!told.id; $("again").hidden = !seen.length;
  page.show(told);
  if (!told.id) $("end").focus();
}
async function next() {
  if (page.waiting) page.waiting();
  const told = await ask("/next", {rater, skipped: skipped.slice(-1000).join(",")});
  if (told.id) { seen.push(told.id); at = seen.length - 1; } else at = seen.length;
  show(told);
}
async function go(step) {
  const to = at + step;
  if (to < 0) return;
  if (to >= seen.length) return next();
  at = to; show(await ask(page.one, {rater, id: seen[at]}));
}
const move = guarded(go), pass = guarded(async () => { skipped.push(now.id); await go(1); });
$("skip").onclick = pass; $("back").onclick = $("again").onclick = () => move(-1); $("on").onclick = () => move(1);
$("start").addEventListener("submit", event => {
  event.preventDefault(); rater = $("rater").value.trim();
  if (!rater) return;
  $("who").textContent = rater; $("start").hidden = true;
  guarded(async () => { await next(); if (page.started) page.started(); })();
});
document.addEventListener("keydown", event => {
  if (!rater || event.ctrlKey || event.metaKey || event.altKey || event.target.tagName === "INPUT") return;
  const key = event.key;
  if (key === "ArrowLeft") move(-1);
  else if (key === "u" && page.undo) page.undo();
  else if ($("work").hidden) return;
  else if (key === "ArrowRight") move(1);
  else if (key === "s") pass();
  else if (!page.key(key)) return;
  event.preventDefault();
});
function begin() {
  const given = new URLSearchParams(location.search).get("rater");
  if (given) { $("rater").value = given; $("start").requestSubmit(); }
}
