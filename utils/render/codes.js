/* The page of codes: a card with a moving figure for each, and the chosen one large beside real movements. */

const data = JSON.parse(document.getElementById("data").textContent);
const joints = data.bones.length + 1, slow = 0.25;
const $ = id => document.getElementById(id);
const still = matchMedia("(prefers-reduced-motion: reduce)").matches;
const narrow = matchMedia("(max-width: 820px)");
const light = matchMedia("(prefers-color-scheme: light)");
const colourOf = name => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
let shadow = colourOf("shadow");
const state = { section: data.sections[0], card: null, clip: -1, yaw: 0.45, visible: new Map() };

function unpack(text) {  // millimetres -> metres
  const bytes = Uint8Array.from(atob(text), c => c.charCodeAt(0)), view = new DataView(bytes.buffer);
  return Float32Array.from({ length: bytes.length / 2 }, (_, i) => view.getInt16(2 * i, true) / 1000);
}
function motionOf(thing) { return thing.unpacked ??= unpack(thing.motion); }

function pose(motion, time, there) {  // joints between two frames; back and forth if `there`
  const frames = motion.length / joints / 3, last = frames - 1;
  if (last === 0) return motion;
  let at = time % (there ? 2 * last : frames + data.fps / 4);
  at = there && at > last ? 2 * last - at : Math.min(at, last);
  const first = Math.floor(at), second = Math.min(first + 1, last), part = at - first, size = 3 * joints;
  return motion.subarray(first * size, (first + 1) * size).map((x, i) => x + part * (motion[second * size + i] - x));
}

function draw(canvas, points, colours, yaw, strong) {
  const scale = devicePixelRatio || 1, size = Math.round(canvas.clientWidth * scale);
  if (canvas.width !== size) canvas.width = canvas.height = size;
  const pen = canvas.getContext("2d"), unit = size / 2.35, c = Math.cos(yaw), s = Math.sin(yaw);
  pen.clearRect(0, 0, size, size);
  pen.lineCap = "round";
  const at = j => { const x = points[3 * j], y = points[3 * j + 1], z = points[3 * j + 2];
    const depth = s * x + c * z, far = 4 / (4 - depth);
    return [size / 2 + far * unit * (c * x - s * z), size * 0.5 - far * unit * (y - 0.06 * depth), depth]; };
  const places = Array.from({ length: joints }, (_, j) => at(j));
  pen.fillStyle = shadow;
  pen.beginPath(); pen.ellipse(places[0][0], size * 0.93, size * 0.16, size * 0.03, 0, 0, 7); pen.fill();
  data.bones.map(([a, b], i) => [a, b, colours[i], (places[a][2] + places[b][2]) / 2])
    .sort((p, q) => p[3] - q[3])
    .forEach(([a, b, colour]) => { pen.strokeStyle = colour; pen.lineWidth = unit * (strong ? 0.06 : 0.07);
      pen.beginPath(); pen.moveTo(places[a][0], places[a][1]); pen.lineTo(places[b][0], places[b][1]); pen.stroke(); });
  pen.fillStyle = colours[colours.length - 1];
  pen.beginPath(); pen.arc(places[data.head][0], places[data.head][1] - 0.05 * unit, 0.105 * unit, 0, 7); pen.fill();
}

function element(kind, text, parent, name) {  // texts are never read as HTML
  const made = document.createElement(kind);
  if (text !== undefined) made.textContent = text;
  if (name) made.className = name;
  if (parent) parent.append(made);
  return made;
}
const total = section => section.total ??= section.cards.reduce((sum, card) => sum + card.count, 0);
const percent = share => (100 * share).toFixed(1) + " %";

const watch = new IntersectionObserver(entries => entries.forEach(entry => {
  const card = entry.target.card;
  if (entry.isIntersecting) state.visible.set(card, entry.target.canvas); else state.visible.delete(card);
}), { rootMargin: "60px" });

const halfColour = () => (state.section.half === "lower" ? "lower" : "upper");

function showSection(section) {
  state.section = section;
  document.documentElement.style.setProperty("--half", `var(--${halfColour()})`);
  [...$("halves").children].forEach(b => b.setAttribute("aria-pressed", b.section === section));
  $("facts").textContent = `${section.cards.length} of ${section.codes} codes used, perplexity ${section.perplexity.toFixed(1)}`;
  const genres = new Set(section.cards.flatMap(card => card.genres.map(([name]) => name)));
  $("genre").replaceChildren();
  ["all", ...[...genres].sort()].forEach(name => element("option", name, $("genre")));
  showCards();
  drawUsage();
}

function showCards() {
  const { section } = state, genre = $("genre").value, shareOf = card => (card.genres.find(([name]) => name === genre) || [0, 0])[1];
  watch.disconnect(); state.visible.clear(); $("cards").replaceChildren();
  const cards = section.cards.filter(card => genre === "all" || shareOf(card) >= 0.2);
  if ($("order").value === "code") cards.sort((a, b) => a.code - b.code);
  for (const card of cards) {
    const made = element("button", undefined, $("cards"), "card");
    made.card = card;
    made.canvas = element("canvas", undefined, made);
    element("b", card.code, made);
    element("span", percent(card.count / total(section)), made);
    element("i", card.genres.filter(([, share]) => share >= 0.2).map(([name]) => name).join(", ") || "no one genre", made);
    made.onclick = () => {
      choose(card);
      if (narrow.matches) goTo(document.querySelector("aside"));
    };
    watch.observe(made);
  }
  const asked = section.cards.find(card => location.hash === `#${section.half}-${card.code}`);
  if (cards.length) choose(asked || cards[0]);
}

function choose(card, clip = -1) {
  Object.assign(state, { card, clip });
  history.replaceState(null, "", `#${state.section.half}-${card.code}`);
  document.querySelectorAll(".card").forEach(made => made.setAttribute("aria-pressed", made.card === card));
  $("name").textContent = `${state.section.half} ${card.code}`;
  $("count").textContent = `used ${card.count} times, ${percent(card.count / total(state.section))} of all`;
  $("clips").replaceChildren();
  const rows = [["the code itself, four times slower, back and forth", "", true]].concat(card.clips.map(c =>
    [c.name, ` at ${c.start.toFixed(1)} s, ${(100 * c.distance).toFixed(1)} cm away`, c.motion !== ""]));
  rows.forEach(([name, where, playable], row) => {
    const made = element("button", name, $("clips"), "shown");
    element("small", where, made);
    made.disabled = !playable;
    made.setAttribute("aria-pressed", row === clip + 1);
    made.onclick = () => choose(card, row - 1);
  });
  $("genres").replaceChildren();
  for (const [name, share] of card.genres) {
    const bar = element("div", undefined, $("genres"), "bar");
    element("span", name, bar);
    element("div", undefined, bar).style.width = 100 * share + "%";
    element("span", percent(share), bar);
  }
}

/** Scrolls to an element. */
function goTo(element) {
  element.scrollIntoView({ behavior: still ? "auto" : "smooth", block: "start" });
}

function drawUsage() {
  const canvas = $("usage"), counts = state.section.cards.map(card => card.count).sort((a, b) => b - a);
  canvas.width = 2 * canvas.clientWidth; canvas.height = 120;
  const pen = canvas.getContext("2d"), wide = canvas.width / state.section.codes;
  pen.fillStyle = colourOf(halfColour());
  counts.forEach((count, i) => pen.fillRect(i * wide, 120 * (1 - count / counts[0]), Math.max(1, wide * 0.8), 120));
}

function frame(now) {
  const time = now / 1000 * data.fps, { colours } = state.section;
  if (!still || !frame.drawn)
    for (const [card, canvas] of state.visible) draw(canvas, pose(motionOf(card), slow * time, true), colours, 0.45, false);
  frame.drawn = state.visible.size > 0;
  if (state.card) {
    const clip = state.card.clips[state.clip];
    const points = clip ? pose(motionOf(clip), time / 2 / data.every, false) : pose(motionOf(state.card), slow * time, true);
    draw($("large"), points, colours, state.yaw, true);
  }
  requestAnimationFrame(frame);
}

for (const section of data.sections) {
  const made = element("button", section.half, $("halves"));
  made.section = section;
  made.onclick = () => showSection(section);
  $("halves").append(" ");
}
$("order").onchange = $("genre").onchange = showCards;
$("large").onpointerdown = event => $("large").setPointerCapture(event.pointerId);
$("large").onpointermove = event => { if (event.buttons) state.yaw += event.movementX / 120; };
$("large").onkeydown = event => {
  const turn = { ArrowLeft: -0.15, ArrowRight: 0.15 }[event.key];
  if (turn) { state.yaw += turn; event.preventDefault(); }
};
$("back").onclick = () => goTo(document.querySelector(".card[aria-pressed=true]") || $("cards"));
light.onchange = () => { shadow = colourOf("shadow"); drawUsage(); frame.drawn = false; };
window.onresize = () => { drawUsage(); frame.drawn = false; };
const asked = location.hash.slice(1).split("-")[0];
showSection(data.sections.find(section => section.half === asked) || data.sections[0]);
requestAnimationFrame(frame);
