// ---- what lies behind the table
const records = JSON.parse(document.getElementById("records").textContent);
const svgNamespace = "http://www.w3.org/2000/svg";

// ---- the table: sort, filter, kinds of columns
const table = $("#cells"), body = $("tbody", table), planned = $$("tr", body);
const heads = $$("thead tr:last-child th", table);
const number = (row, measure) => records.cells[row.dataset.id].numbers[measure]?.value;

function keyOf(row, position) {
  const measure = heads[position].dataset.measure;
  if (measure !== undefined) return number(row, measure);
  const text = row.children[position].textContent.trim();
  return text === "" ? undefined : Number.isNaN(Number(text)) ? text : Number(text);
}

function sortBy(position, direction) {
  heads.forEach((head, i) => (i === position && direction ? head.setAttribute("aria-sort", direction) : head.removeAttribute("aria-sort")));
  const sign = direction === "descending" ? -1 : 1;
  const keyed = planned.map((row, i) => ({ row, i, key: direction ? keyOf(row, position) : i }));
  keyed.sort((a, b) => {
    if (a.key === undefined || b.key === undefined) return (a.key === undefined) - (b.key === undefined) || a.i - b.i;
    const order = typeof a.key === "number" && typeof b.key === "number" ? a.key - b.key : String(a.key).localeCompare(String(b.key));
    return sign * order || a.i - b.i;
  });
  body.append(...keyed.map((item) => item.row));
  table.classList.toggle("sorted", Boolean(direction));
}

heads.forEach((head, position) => {
  const label = $(".sort", head);
  const button = make("button", { type: "button", textContent: label.textContent });
  label.replaceChildren(button);
  button.addEventListener("click", () => {
    const next = { ascending: "descending", descending: null }[head.getAttribute("aria-sort")];
    sortBy(position, next === undefined ? "ascending" : next);
  });
});

const filter = $("#filter"), selects = $$("#controls select"), count = $("#count");
const words = new Map(planned.map((row) => [row, row.textContent.toLowerCase()]));
function applyFilter() {
  const wanted = filter.value.toLowerCase().split(/\s+/).filter(Boolean);
  let shown = 0;
  for (const row of planned) {
    const fits = wanted.every((word) => words.get(row).includes(word)) &&
      selects.every((select) => !select.value || row.children[Number(select.dataset.column)].textContent.trim() === select.value);
    row.hidden = !fits;
    shown += fits;
  }
  count.textContent = shown === planned.length ? `${shown} rows` : `${shown} of ${planned.length} rows`;
}
filter.addEventListener("input", applyFilter);
selects.forEach((select) => select.addEventListener("change", applyFilter));
$("#controls").hidden = false;
applyFilter();

const kinds = $$(".kinds button");
function showKind(kind) {
  kinds.forEach((button) => button.setAttribute("aria-pressed", String(button.dataset.kind === kind)));
  $$("thead [data-kind]", table).forEach((head) => (head.hidden = Boolean(kind) && head.dataset.kind !== kind));
  const hidden = heads.map((head) => head.hidden);
  for (const row of planned) [...row.children].forEach((cell, i) => (cell.hidden = hidden[i]));
}
kinds.forEach((button) => button.addEventListener("click", () => showKind(button.dataset.kind)));

// ---- what is behind a number, and behind a row
const hover = $("#hover");
function place(box) {
  hover.hidden = false;
  const size = hover.getBoundingClientRect();
  const above = box.top - size.height - 8;
  hover.style.left = `${Math.max(8, Math.min(box.left, innerWidth - size.width - 8))}px`;
  hover.style.top = `${above > 8 ? above : Math.min(box.bottom + 8, innerHeight - size.height - 8)}px`;
}
const line = (text) => make("div", { textContent: text });
const digits = (value) => String(Number(value.toPrecision(5)));
const short = (values) => values.map(digits).join(" ");

function explain(cell) {
  const row = cell.closest("tr"), record = records.cells[row.dataset.id];
  const measure = heads[[...row.children].indexOf(cell)]?.dataset.measure;
  if (!record || measure === undefined) return false;
  const found = record.numbers[measure];
  hover.replaceChildren(make("b", { textContent: `${record.name}: ${records.titles[measure]}` }));
  if (found) {
    const ends = found.low === undefined ? "no interval: too few samples" : `95 % interval ${digits(found.low)} to ${digits(found.high)}`;
    hover.append(line(`${digits(found.value)}${found.unit ? ` ${found.unit}` : ""}, n = ${found.n}`), line(ends));
    const raw = record.samples[measure];
    if (raw) hover.append(line(`samples: ${short(raw.slice(0, 40))}${raw.length > 40 ? " …" : ""}`));
    else if (records.kinds[measure] === "cost") {
      const repeats = Object.entries(record.samples).filter(([name]) => !(name in records.titles) || records.kinds[name] === "cost");
      for (const [name, values] of repeats.slice(0, 6)) hover.append(line(`${name}: ${short(values.slice(0, 12))}${values.length > 12 ? " …" : ""}`));
    }
  } else hover.append(line(record.absent[measure] ?? (record.reason || "no number, no reason given")));
  hover.append(line(`${record.started || "never started"} · ${record.revision || "no revision"}`), line(records.made));
  return true;
}
const targetOf = (event) => event.target.closest?.("#cells tbody td, .chart svg [aria-label]");
function show(target) {
  if (target.tagName === "TD" ? !explain(target) : !target.getAttribute("aria-label")) return;
  if (target.tagName !== "TD") hover.replaceChildren(document.createTextNode(target.getAttribute("aria-label")));
  place(target.getBoundingClientRect());
}
for (const kind of ["mouseover", "focusin"]) document.addEventListener(kind, (event) => targetOf(event) && show(targetOf(event)));
for (const kind of ["mouseout", "focusout"]) document.addEventListener(kind, (event) => targetOf(event) && (hover.hidden = true));
addEventListener("scroll", () => (hover.hidden = true), true);

let current = null;
function focusCell(cell) {
  if (current) current.tabIndex = -1;
  current = cell;
  cell.tabIndex = 0;
  cell.focus();
}
const firstNumber = planned[0] && $$("td:not(.head):not(.status)", planned[0])[0];
if (firstNumber) (current = firstNumber).tabIndex = 0;
body.addEventListener("keydown", (event) => {
  const cell = event.target.closest("td");
  const step = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] }[event.key];
  if (event.key === "Escape") hover.hidden = true;
  if (!cell || !step) return;
  const rows = $$("tr", body).filter((row) => !row.hidden), row = cell.parentElement;
  const cells = [...row.children].filter((item) => !item.hidden && item.tagName === "TD");
  const next = step[0] ? rows[rows.indexOf(row) + step[0]]?.children[[...row.children].indexOf(cell)] : cells[cells.indexOf(cell) + step[1]];
  if (next?.tagName === "TD") {
    event.preventDefault();
    focusCell(next);
  }
});

const dialog = $("#detail");
function sparkline(values) {
  const drawing = document.createElementNS(svgNamespace, "svg"), path = document.createElementNS(svgNamespace, "polyline");
  const low = Math.min(...values), high = Math.max(...values), last = Math.max(values.length - 1, 1);
  drawing.setAttribute("viewBox", `0 0 ${last} 1`);
  drawing.setAttribute("preserveAspectRatio", "none");
  drawing.setAttribute("aria-hidden", "true");
  path.setAttribute("points", values.map((value, i) => `${i},${high > low ? 1 - (value - low) / (high - low) : 0.5}`).join(" "));
  drawing.append(path);
  return drawing;
}
function list(pairs) {
  const found = make("dl");
  for (const [name, value] of pairs) found.append(make("dt", { textContent: name }), value instanceof Node ? make("dd", {}, value) : make("dd", { textContent: value }));
  return found;
}
function part(title, pairs) {
  return pairs.length ? [make("h3", { textContent: title }), list(pairs)] : [];
}
function detail(id) {
  const record = records.cells[id];
  $("#detail-title").textContent = record.name;
  const samples = Object.entries(record.samples).map(([name, values]) => [records.titles[name] ?? name,
    make("span", {}, ...(values.length > 1 ? [sparkline(values)] : []), short(values), name in record.counts ? ` … ${record.counts[name]} in all` : "")]);
  const numbers = Object.entries(record.numbers).map(([name, found]) => [records.titles[name] ?? name,
    `${found.value}${found.unit ? ` ${found.unit}` : ""}${found.low === undefined ? "" : `  [${found.low}, ${found.high}]`}, n = ${found.n}`]);
  $("#detail-body").replaceChildren(
    ...part("Attempt", [["status", record.status], ...(record.reason ? [["reason", record.reason]] : []), ["started", record.started || "never"],
      ["seconds", String(record.seconds)], ["revision", record.revision || "none"], ["cell", id]]),
    ...part("Settings", Object.entries(record.values).map(([name, value]) => [name, String(value)])),
    ...part("Numbers, unrounded, with 95 % intervals", numbers),
    ...part("Raw samples", samples),
    ...part("No number, because", Object.entries(record.absent).map(([name, why]) => [records.titles[name] ?? name, why])),
    ...part("Facts", Object.entries(record.facts)),
    ...part("Machine, where it differs from the run's", Object.entries(record.machine).map(([name, value]) => [name, String(value)])),
  );
  dialog.showModal();
}
for (const row of planned) {
  const name = $("th .name", row);
  if (!name) continue;
  const button = make("button", { type: "button", textContent: name.textContent });
  button.setAttribute("aria-haspopup", "dialog");
  button.addEventListener("click", () => detail(row.dataset.id));
  name.replaceChildren(button);
}

