"use strict";
// The page of a review. All photos are held as columns; lists are made here, thumbnails are loaded a page at a time.
const UNKNOWN = -1, PAGE = 60, NUMBERED = 9, POLL_MS = 3000;
const element = (id) => document.getElementById(id);
const data = { version: 0, labels: [], classes: [] };
const view = { list: [], at: 0, predicted: null };  // row numbers shown, position of the current one, class filter
let saving = Promise.resolve(), unsaved = 0, stopped = false, lost = false;

async function request(path, options) {
  const response = await fetch(path, { cache: "no-store", ...options });
  if (!response.ok) {
    const body = await response.json().catch(() => ({}));
    throw new Error(body.detail || `status ${response.status}`);
  }
  return response.json();
}

const post = (path, body) => request(path, {
  method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body ?? {}),
});

function className(number) {
  return number === UNKNOWN ? "(unknown)" : number === null ? "" : data.classes[number];
}

function classNumber(name) {
  return name === "" ? null : name === "(unknown)" ? UNKNOWN : data.classes.indexOf(name);
}

// Lists -------------------------------------------------------------------------------------------------------------

function isShown(row) {
  const label = data.labels[row], state = element("state").value;
  if (state === "open" && label !== null) return false;
  if (state === "labelled" && label === null) return false;
  if (state === "corrected" && (label === null || label === data.predicted[row])) return false;
  if (view.predicted !== null && data.predicted[row] !== view.predicted) return false;
  if (element("differ").checked && !data.differ[row]) return false;
  const below = parseFloat(element("below").value);
  return !(below < 1) || data.probability[row] < below;
}

function randomKey(row) {  // the same order in every session
  let x = (row + 1) * 2654435761 % 4294967296;
  x ^= x >>> 16; x = Math.imul(x, 73244475); x ^= x >>> 16; x = Math.imul(x, 73244475);
  return (x ^ (x >>> 16)) >>> 0;
}

const KEYS = {
  doubt: (row) => [data.probability[row]],
  random: (row) => [randomKey(row)],
  class: (row) => [data.predicted[row], data.probability[row]],
  file: (row) => [data.place[row]],
  unknown: (row) => [-(data.unknown[row] ?? 0)],
};

function makeList() {
  const key = KEYS[element("order").value];
  const rows = data.paths.map((_, row) => row).filter(isShown).map((row) => [...key(row), row]);
  rows.sort((a, b) => { for (let i = 0; i < a.length; i++) if (a[i] !== b[i]) return a[i] - b[i]; return 0; });
  view.list = rows.map((entry) => entry[entry.length - 1]);
  view.at = 0;
  closeChooser();
  show();
}

// Drawing -----------------------------------------------------------------------------------------------------------

const current = () => view.list[view.at];

function show() {
  const row = current(), there = row !== undefined;
  element("photo").hidden = !there;
  element("empty").hidden = there;
  for (const id of ["accept", "other", "none", "skip", "clear"]) element(id).disabled = !there;
  if (there) {
    const photo = element("photo");
    if (photo.dataset.row !== String(row)) {
      photo.dataset.row = row;
      photo.src = `large/${row}`;
      photo.alt = data.paths[row];
    }
    const label = data.labels[row];
    element("answer").textContent = className(data.predicted[row]);
    element("sure").textContent = `${(100 * data.probability[row]).toFixed(0)}%` + branches(row);
    element("typed").textContent = label === null ? "" : `labelled ${className(label)}`;
    element("typed").className = label === data.predicted[row] ? "" : "wrong";
    element("path").textContent = data.paths[row];
  } else {
    delete element("photo").dataset.row;
    for (const id of ["answer", "sure", "typed", "path"]) element(id).textContent = "";
  }
  showGrid();
}

function branches(row) {
  if (data.predicted[row] === UNKNOWN && data.closest[row] !== null) return ` of ${className(data.closest[row])}, the closest class`;
  if (!data.differ[row]) return "";
  return ` (VAC ${className(data.branches[row][0])}, LAC ${className(data.branches[row][1])})`;
}

function showGrid() {
  const first = Math.floor(view.at / PAGE) * PAGE, rows = view.list.slice(first, first + PAGE);
  const grid = element("grid"), key = rows.join();
  if (grid.dataset.rows !== key) {
    grid.dataset.rows = key;
    grid.replaceChildren(...rows.map((row, index) => {
      const button = document.createElement("button"), image = document.createElement("img");
      image.loading = "lazy";
      image.src = `thumbnail/${row}`;
      image.alt = data.paths[row];
      button.append(image);
      button.addEventListener("click", () => { view.at = first + index; show(); });
      return button;
    }));
  }
  [...grid.children].forEach((button, index) => {
    const label = data.labels[rows[index]];
    const judged = label === null ? "" : label === data.predicted[rows[index]] ? "right" : "wrong";
    button.className = `${judged} ${first + index === view.at ? "now" : ""}`.trim();
  });
  const pages = Math.max(1, Math.ceil(view.list.length / PAGE));
  element("page").textContent = `${Math.floor(view.at / PAGE) + 1} of ${pages}, ${view.list.length} photos`;
  grid.querySelector(".now")?.scrollIntoView({ block: "nearest" });
  const after = view.list[view.at + 1];
  if (after !== undefined) new Image().src = `large/${after}`;  // the next photo is there when it is wanted
}

function showScores(scores) {
  element("bar").style.width = `${100 * scores.labelled / scores.photos}%`;
  element("progress").textContent = `${scores.labelled} of ${scores.photos} labelled` + (unsaved ? `, ${unsaved} being saved` : "");
  const percent = (value) => (100 * value).toFixed(1);
  element("accuracy").textContent = scores.accuracy === null ? "" :
    `${percent(scores.accuracy)}% of them predicted right ` +
    (scores.like_random ? `(95%: ${percent(scores.low)} to ${percent(scores.high)})` : "(no random choice: not that of all)");
}

function showClasses() {
  const counts = new Map();
  for (const number of data.predicted) counts.set(number, (counts.get(number) ?? 0) + 1);
  const entries = [[null, data.paths.length], ...[...counts].sort((a, b) => b[1] - a[1])];
  element("classes").replaceChildren(...entries.map(([number, count]) => {
    const item = document.createElement("li"), button = document.createElement("button");
    const total = document.createElement("span");
    total.textContent = count;
    button.append(number === null ? "all" : className(number), total);
    button.setAttribute("aria-pressed", view.predicted === number);
    button.addEventListener("click", () => { view.predicted = number; showClasses(); makeList(); });
    item.append(button);
    return item;
  }));
}

function classButton(number, text) {
  const item = document.createElement("li"), button = document.createElement("button");
  if (text) { const key = document.createElement("kbd"); key.textContent = text; button.append(key, " "); }
  button.append(className(number));
  button.type = "button";
  button.addEventListener("click", () => decide(number));
  item.append(button);
  return item;
}

function fault(text, passing = false) {  // a passing one goes with the next answer
  element("fault").textContent = text;
  element("fault").dataset.passing = passing;
  element("fault").hidden = false;
}

function clearFault() {
  if (element("fault").dataset.passing !== "true") return;
  element("fault").hidden = true;
  element("fault").textContent = "";
}

// Decisions ---------------------------------------------------------------------------------------------------------

function takeIn(state) {
  data.version = state.version;
  for (const [row, label] of Object.entries(state.labels)) data.labels[row] = classNumber(label);
  showScores(state.scores);
}

function decide(number, advance = true) {
  const row = current();
  if (row === undefined || stopped) return;
  const before = data.labels[row];
  data.labels[row] = number;
  unsaved += 1;
  saving = saving.then(async () => {
    if (stopped) return;
    try {
      const state = await post(`labels?since=${data.version}`, { row, label: className(number) });
      unsaved -= 1;
      clearFault();
      takeIn(state);
    } catch (error) {
      if (!(error instanceof TypeError)) {  // the service has answered: this photo alone is at fault
        unsaved -= 1;
        data.labels[row] = before;
        fault(`Not saved, ${data.paths[row]}: ${error.message}`, true);
        show();
        return;
      }
      stopped = true;
      fault(`Not saved (${error.message}): the last ${unsaved} decision(s). All before are in the label file. Start review again.`);
    }
  });
  closeChooser();
  if (advance) move(1); else show();
}

function move(step) {
  let at = view.at + step;
  const open = element("state").value === "open" && step > 0;
  while (open && at < view.list.length && data.labels[view.list[at]] !== null) at += 1;  // labelled in another tab
  if (at >= view.list.length && open) { makeList(); return; }  // those that were skipped
  view.at = Math.max(0, Math.min(view.list.length - 1, at));
  show();
}

function turnPage(step) {
  const at = (Math.floor(view.at / PAGE) + step) * PAGE;
  if (at >= 0 && at < view.list.length) { view.at = at; show(); }
}

function undo() {
  saving = saving.then(async () => {
    try {
      const state = await post(`undo?since=${data.version}`);
      clearFault();
      takeIn(state);
      if (state.undone !== null) {
        const at = view.list.indexOf(state.undone);
        if (at < 0) view.list.splice(view.at, 0, state.undone); else view.at = at;
      }
      show();
    } catch (error) { fault(`Not undone (${error.message}).`); }
  });
}

function finish() {
  saving = saving.then(async () => {
    if (stopped) return;
    try {
      await post("finish");
      stopped = true;
      fault("The review has ended; the command goes on and adapts again. Then start review again.");
    } catch (error) { fault(`Not ended (${error.message}).`); }
  });
}

// The chooser of classes ---------------------------------------------------------------------------------------------

function openChooser() {
  element("chooser").hidden = false;
  element("wanted").value = "";
  showMatches();
  element("wanted").focus();
}

function closeChooser() {
  element("chooser").hidden = true;
  element("wanted").blur();
}

function matches() {
  const wanted = element("wanted").value.trim().toLowerCase();
  const found = data.classes.slice(0, data.allowed).map((name, number) => [name.toLowerCase().indexOf(wanted), number]);
  return found.filter(([at]) => at >= 0).sort((a, b) => (a[0] > 0) - (b[0] > 0) || a[1] - b[1]).map(([, number]) => number);
}

function showMatches() {
  element("matches").replaceChildren(...matches().slice(0, 24).map((number) => classButton(number, "")));
}

// Start -------------------------------------------------------------------------------------------------------------

const ACTIONS = {
  Enter: () => decide(data.predicted[current()]), " ": () => decide(data.predicted[current()]),
  c: openChooser, "/": openChooser, u: () => decide(UNKNOWN), s: () => move(1), ArrowRight: () => move(1),
  ArrowLeft: () => move(-1), z: undo, Delete: () => decide(null, false), Backspace: () => decide(null, false),
  PageDown: () => turnPage(1), PageUp: () => turnPage(-1),
};

document.addEventListener("keydown", (event) => {
  if (event.key === "Escape") { closeChooser(); return; }
  if (event.target.matches("input, select, summary") || event.altKey || event.metaKey) return;
  if (event.ctrlKey && event.key !== "z") return;
  if (event.target.matches("button") && (event.key === "Enter" || event.key === " ")) return;  // a click by keyboard
  const number = Number(event.key) - 1, key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
  const action = number >= 0 && number < Math.min(NUMBERED, data.allowed) ? () => decide(number) : ACTIONS[key];
  if (!action) return;
  event.preventDefault();
  action();
});

document.addEventListener("click", (event) => {  // keys then go to the photo, not to the button
  if (event.detail > 0) event.target.closest("button")?.blur();
});

const CLICKS = {
  accept: ACTIONS.Enter, other: openChooser, none: ACTIONS.u, skip: ACTIONS.s, back: ACTIONS.ArrowLeft, undo, finish,
  clear: ACTIONS.Delete, previous: ACTIONS.PageUp, next: ACTIONS.PageDown,
};

async function start() {
  Object.assign(data, await request("photos"));
  document.title = `Review ${data.title}`;
  element("title").textContent = data.title;
  element("commands").textContent = data.commands.join("\n");
  element("differ-row").hidden = !data.differ.some(Boolean);
  element("by-unknown").hidden = data.unknown.every((score) => score === null);
  element("numbered").replaceChildren(
    ...data.classes.slice(0, Math.min(NUMBERED, data.allowed)).map((_, number) => classButton(number, number + 1)));
  for (const [id, action] of Object.entries(CLICKS)) element(id).addEventListener("click", action);
  for (const id of ["order", "state", "below", "differ"]) {
    element(id).addEventListener("change", () => { element(id).blur(); makeList(); });
  }
  element("wanted").addEventListener("input", showMatches);
  element("chooser").addEventListener("submit", (event) => {
    event.preventDefault();
    const [first] = matches();
    if (first !== undefined) decide(first);
  });
  window.addEventListener("beforeunload", (event) => { if (unsaved) event.preventDefault(); });
  window.addEventListener("focus", catchUp);
  setInterval(catchUp, POLL_MS);
  if (data.reordered) element("order").value = "file";  // rows that were chosen for labelling are first there
  showScores(data.scores);
  showClasses();
  makeList();
}

async function catchUp() {
  if (stopped || unsaved || document.hidden) return;
  try {
    const before = data.version, state = await request(`changes?since=${before}`);
    if (unsaved || before !== data.version) return;
    takeIn(state);
    if (lost) { lost = false; element("fault").hidden = true; }
    if (Object.keys(state.labels).length) show();
  } catch (error) {
    lost = true;
    fault(`The review was stopped (${error.message}). Decisions so far are in the label file.`);
  }
}

start().catch((error) => fault(error.message));
