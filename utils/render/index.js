/* Fills the page: tables above, a card for each dance, sorted as the reader likes. Names only ever become text. */

const find = (id) => document.getElementById(id);
const page = JSON.parse(find("data").textContent);

function element(tag, kind, text) {
  const made = document.createElement(tag);
  if (kind) made.className = kind;
  if (text !== undefined) made.textContent = text;
  return made;
}

function link(href, kind, text) {
  const made = element("a", kind, text);
  made.href = href;
  return made;
}

function table({ title, columns, rows }) {
  const box = element("div", "table");
  const made = element("table");
  const head = element("tr");
  const corner = element("td");
  head.append(corner);
  for (const column of columns) {
    const cell = element("th", "", column);
    cell.scope = "col";
    const known = meaningOf(page.meanings, column);
    if (known) cell.title = `${column}: ${known.meaning}`;
    head.append(cell);
  }
  const top = element("thead");
  top.append(head);
  const body = element("tbody");
  for (const [name, values] of rows) {
    const row = element("tr");
    const cell = element("th", "", name);
    cell.scope = "row";
    row.append(cell, ...values.map((value) => element("td", value.length > 40 ? "text" : "", value)));
    body.append(row);
  }
  made.append(element("caption", "", title));
  if (columns.some((column) => column)) made.append(top);
  made.append(body);
  box.append(made);
  return box;
}

function card(entry) {
  const made = element("li", "card");
  const first = entry.player || entry.video;
  const look = first ? link(first, "look") : element("div", "look");
  if (entry.thumbnail) {
    const picture = element("img");
    picture.src = entry.thumbnail;
    picture.alt = "";
    picture.loading = "lazy";
    look.append(picture);
  }
  if (first) {
    look.append(element("span", "go"));
    look.setAttribute("aria-label", `Play ${entry.name}`);
    look.tabIndex = -1; // the name below leads to the same place
  }
  if (entry.label) look.append(element("span", "label", entry.label));
  const about = element("div", "about");
  const heading = element("h3");
  heading.append(first ? link(first, "", entry.name) : entry.name);
  const { box: facts, cells } = factList(entry.metrics, page.meanings);
  const notes = entry.notes.map((text) => element("p", "note", text));
  const links = element("div", "links");
  for (const [what, text] of [["player", "Player"], ["video", "Video"], ["beatPlot", "Beats"]]) {
    if (entry[what]) links.append(link(entry[what], "", text));
  }
  for (const [text, href] of entry.files) {
    const file = link(href, "", text);
    file.download = "";
    links.append(file);
  }
  about.append(heading, ...notes, facts, links);
  made.append(look, about);
  return { made, entry, cells, values: new Map(entry.metrics.map(([name, , value]) => [name, value])) };
}

for (const name of page.numbers) {
  const known = meaningOf(page.meanings, name);
  if (!known) continue;
  const line = element("div");
  const unit = known.unit ? ` (${known.unit})` : "";
  line.append(element("dt", "", `${known.label}${unit}`), element("dd", "", known.meaning));
  find("meanings").append(line);
  find("legend").hidden = false;
}
for (const one of page.tables) find("tables").append(table(one));
const cards = page.entries.map(card);
const metrics = [...new Set(cards.flatMap(({ values }) => [...values.keys()]))];
for (const [value, text] of [["", "order made"], ["name", "name"], ...metrics.map((name, at) => [String(at), labelOf(page.meanings, name)])]) {
  const option = element("option", "", text);
  option.value = value;
  find("sort").append(option);
}

/** Below zero if a comes first; what has no value comes last either way round. */
function compare(a, b, sign) {
  const [has, other] = [a !== null && a !== undefined, b !== null && b !== undefined];
  if (!has || !other) return Number(other) - Number(has);
  const numbers = typeof a === "number" && typeof b === "number";
  return sign * (numbers ? a - b : String(a).localeCompare(String(b), undefined, { numeric: true }));
}

function show() {
  const chosen = find("sort").value;
  const down = find("order").getAttribute("aria-pressed") === "true";
  find("order").textContent = down ? "↓ descending" : "↑ ascending";
  const metric = metrics[Number(chosen)];
  let key = ({ values }) => values.get(metric);
  if (chosen === "") key = ({ entry }) => page.entries.indexOf(entry);
  if (chosen === "name") key = ({ entry }) => entry.name;
  const wanted = find("find").value.trim().toLowerCase();
  const shown = cards.filter(({ entry }) => `${entry.name} ${entry.label}`.toLowerCase().includes(wanted));
  shown.sort((a, b) => compare(key(a), key(b), down ? -1 : 1));
  for (const { cells } of cards) {
    for (const [name, cell] of cells) cell.classList.toggle("sorted", chosen !== "" && chosen !== "name" && name === metric);
  }
  find("cards").replaceChildren(...shown.map(({ made }) => made));
  find("count").textContent = shown.length === cards.length ? `${cards.length}` : `${shown.length} of ${cards.length}`;
  find("none").hidden = shown.length > 0 || !cards.length;
}

find("sort").addEventListener("change", show);
find("find").addEventListener("input", show);
find("order").addEventListener("click", () => {
  find("order").setAttribute("aria-pressed", String(find("order").getAttribute("aria-pressed") !== "true"));
  show();
});
show();
