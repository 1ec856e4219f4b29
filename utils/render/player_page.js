/* Puts the page together: a stage for each dance, one clock, the controls, the keys. */

const find = (id) => document.getElementById(id);
const page = JSON.parse(find("data").textContent);
const dances = page.dances.map((data) => new Dance(data));
const options = {
  follow: true,
  trail: "root",
  look: "dark",
  tall: Math.max(...dances.map((dance) => dance.tall)),
  wide: 0,
};
const clock = new Clock(page.seconds, page.song, (line) => {
  find("note").textContent = line;
  find("note").hidden = false;
});
const timeline = new Timeline(find("timeline"), find("overview"), dances, page.seconds);
const light = window.matchMedia("(prefers-color-scheme: light)");
let stale = true; // something other than the time has changed

function element(tag, kind, text) {
  const made = document.createElement(tag);
  if (kind) made.className = kind;
  if (text !== undefined) made.textContent = text;
  return made;
}

/** A list of numbers that is shown when asked for; those of all dances open together, to be compared. */
function folded(facts) {
  const made = element("details", "numbers");
  made.append(element("summary", "", "Numbers"), facts);
  made.addEventListener("toggle", () => {
    for (const other of document.querySelectorAll(".numbers")) other.open = made.open;
  });
  return made;
}

/** A dance's stage with its codes, name and facts. */
function panel(dance) {
  const figure = element("figure", "dance");
  const box = element("div", "stage");
  const canvas = element("canvas");
  canvas.tabIndex = 0;
  canvas.setAttribute("role", "img");
  canvas.setAttribute("aria-label", `The dance ${dance.name}: a figure on a floor, drawn in three dimensions`);
  const chips = element("div", "chips");
  const numbers = {};
  for (const half of ["upper", "lower"]) {
    if (!dance[half].length) continue;
    const chip = element("span", `chip ${half}`, half);
    numbers[half] = element("b");
    chip.append(numbers[half]);
    chips.append(chip);
  }
  const over = element("span", "over", "ended");
  over.hidden = true;
  const big = element("span", "big");
  big.append(find("play").querySelector("svg").cloneNode(true));
  big.querySelector(".halt").remove();
  box.append(canvas, chips, over, big);
  const caption = element("figcaption");
  caption.append(element("h2", "", dance.name));
  if (dance.facts.length) {
    const { box: facts } = factList(dance.facts, page.meanings);
    caption.append(page.dances.length > 1 ? folded(facts) : facts);
  }
  figure.append(box, caption);
  find("dances").append(figure);
  const stage = new Stage(canvas, dance, page.skeleton, page.lower);
  return Object.assign(stage, { numbers, over });
}

const stages = dances.map(panel);
const touch = () => (stale = true);

function tie(tied) {
  for (const stage of stages) {
    stage.view = tied ? stages[0].view : { ...stage.view, move: [...stage.view.move] };
  }
  touch();
}

function reset() {
  const view = freshView();
  const tied = pressed("tied");
  for (const stage of stages) stage.view = tied ? view : freshView();
  touch();
}

function setFollow(follow) {
  options.follow = follow;
  options.wide = Math.max(...dances.map((dance) => (follow ? dance.wide : dance.wideStill)));
  touch();
}

/* The switches of the bar */
const pressed = (id) => find(id).getAttribute("aria-pressed") === "true";
const switches = {
  loop: (on) => (clock.loop = on),
  follow: setFollow,
  tied: tie,
  mute: (on) => {
    if (clock.sound) clock.sound.muted = on;
  },
};
function flip(id) {
  const on = !pressed(id);
  find(id).setAttribute("aria-pressed", String(on));
  switches[id](on);
}
for (const id of Object.keys(switches)) find(id).addEventListener("click", () => flip(id));

function togglePlay() {
  if (clock.playing) clock.pause();
  else clock.play();
  document.body.classList.add("begun");
  touch();
}
function seek(time) {
  clock.seek(time);
  touch();
}
function choose(id, by) {
  const list = find(id);
  list.selectedIndex = Math.min(Math.max(list.selectedIndex + by, 0), list.length - 1);
  list.dispatchEvent(new Event("change"));
}
find("play").addEventListener("click", togglePlay);
find("start").addEventListener("click", () => seek(0));
find("reset").addEventListener("click", reset);
find("seek").addEventListener("input", (event) => seek(Number(event.target.value)));
find("speed").addEventListener("change", (event) => clock.setSpeed(Number(event.target.value)));
find("trail").addEventListener("change", (event) => {
  options.trail = event.target.value;
  touch();
});
find("span").addEventListener("change", (event) => {
  timeline.span = Number(event.target.value);
  touch();
});

/* The keys; in a list of choices they belong to the list */
const turn = (yaw, pitch) => () => {
  for (const view of new Set(stages.map((stage) => stage.view))) turnBy(view, yaw, pitch);
  touch();
};
const zoom = (factor) => () => {
  for (const view of new Set(stages.map((stage) => stage.view))) zoomBy(view, factor);
  touch();
};
const keys = {
  " ": togglePlay,
  k: togglePlay,
  arrowleft: (event) => seek(clock.time - (event.shiftKey ? 5 : 1)),
  arrowright: (event) => seek(clock.time + (event.shiftKey ? 5 : 1)),
  ",": () => seek(clock.time - 1 / dances[0].fps),
  ".": () => seek(clock.time + 1 / dances[0].fps),
  home: () => seek(0),
  end: () => seek(clock.seconds),
  arrowup: () => choose("speed", 1),
  arrowdown: () => choose("speed", -1),
  l: () => flip("loop"),
  f: () => flip("follow"),
  c: () => flip("tied"),
  m: () => flip("mute"),
  t: () => {
    find("trail").selectedIndex = (find("trail").selectedIndex + 1) % find("trail").length;
    choose("trail", 0);
  },
  r: reset,
  a: turn(-0.12, 0),
  d: turn(0.12, 0),
  w: turn(0, 0.08),
  s: turn(0, -0.08),
  "+": zoom(1.12),
  "=": zoom(1.12),
  "-": zoom(1 / 1.12),
};
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.tagName === "SELECT") return;
  const key = event.key.toLowerCase();
  if (key === " " && ["BUTTON", "SUMMARY"].includes(event.target.tagName)) return; // it presses the button
  if (!(key in keys)) return;
  event.preventDefault();
  keys[key](event);
});

/* The timeline: a press seeks, the shown seconds stay while it is held */
let held = false;
const lanes = find("timeline");
const placeOf = (event) => {
  const box = lanes.getBoundingClientRect();
  return [event.clientX - box.left, event.clientY - box.top];
};
lanes.addEventListener("pointerdown", (event) => {
  lanes.setPointerCapture(event.pointerId);
  held = true;
  seek(timeline.timeAt(placeOf(event)[0]));
});
lanes.addEventListener("pointermove", (event) => {
  const [x, y] = placeOf(event);
  if (held) seek(timeline.timeAt(x));
  const tip = find("tip");
  tip.hidden = x < GUTTER;
  tip.textContent = timeline.describe(x, y);
  tip.style.left = `${Math.max(Math.min(x + 12, timeline.width - tip.offsetWidth), 0)}px`;
  tip.style.top = `${Math.max(y - 30, 0)}px`;
});
for (const name of ["pointerup", "pointercancel"]) {
  lanes.addEventListener(name, () => {
    held = false;
    touch();
  });
}
lanes.addEventListener("pointerleave", () => (find("tip").hidden = true));

for (const stage of stages) {
  steer(stage, touch, togglePlay);
  stage.canvas.addEventListener("dblclick", reset);
}

if (window.innerWidth <= 640) {
  find("span").value = "5";
  timeline.span = 5;
}

/* Size and look: the stages take what the rest of the page leaves of the window, so that nothing scrolls */
const LEAST = 200; // pixels of a stage's height
const lanesBox = document.querySelector(".lanes");

function layOut() {
  const many = dances.length;
  const narrow = window.innerWidth <= 640;
  const columns = narrow ? Math.min(many, 2) : many;
  const rows = Math.ceil(many / columns);
  const style = find("dances").style;
  style.setProperty("--columns", columns);
  style.setProperty("--stage", `${LEAST}px`);
  document.body.style.setProperty("--lanes", "none");
  lanes.style.height = `${timeline.height}px`;
  const room = window.innerHeight;
  const rest = () => document.body.offsetHeight - rows * LEAST;
  const lacking = rest() + rows * LEAST - room;
  const high = Math.max(lanesBox.offsetHeight - lacking, 110);
  if (!narrow && lacking > 0) document.body.style.setProperty("--lanes", `${high}px`); // they scroll by themselves
  const least = narrow ? (0.46 * room) / (rows > 1 ? 1.5 : 1) : LEAST;
  style.setProperty("--stage", `${Math.floor(Math.max((room - rest()) / rows, least))}px`);
  document.body.classList.toggle("many", many > 1);
  options.look = light.matches ? "light" : "dark";
  const colours = getComputedStyle(document.documentElement);
  const names = ["ink", "soft", "accent", "upper", "lower"];
  timeline.resize(Object.fromEntries(names.map((name) => [name, colours.getPropertyValue(`--${name}`).trim()])));
  for (const stage of stages) stage.resize();
  touch();
}
window.addEventListener("resize", layOut);
light.addEventListener("change", layOut);
document.documentElement.style.setProperty("--upper", page.upper);
document.documentElement.style.setProperty("--lower", page.lower);

function show(time) {
  for (const stage of stages) {
    stage.draw(time, options);
    for (const half of Object.keys(stage.numbers)) {
      const now = stage.dance.code(half, time);
      const code = now < 0 ? "–" : String(now); // there is none while the dancer rests
      if (stage.numbers[half].textContent !== code) stage.numbers[half].textContent = code;
    }
    stage.over.hidden = time < stage.dance.seconds || stage.dance.seconds > page.seconds - 0.05;
  }
  if (!held) timeline.moveTo(time);
  timeline.draw(time);
  find("window").hidden = timeline.shown >= page.seconds;
  find("window").style.left = `${(100 * timeline.from) / page.seconds}%`;
  find("window").style.width = `${(100 * timeline.shown) / page.seconds}%`;
  find("seek").value = time;
  find("seek").setAttribute("aria-valuetext", `${clockText(time)} of ${clockText(page.seconds)}`);
  find("time").textContent = `${clockText(time)} / ${clockText(page.seconds)}`;
  find("play").setAttribute("aria-pressed", String(clock.playing));
  find("play").setAttribute("aria-label", clock.playing ? "Pause" : "Play");
}

let last = 0;
let drawn = -1;
function frame(now) {
  clock.tick((now - last) / 1000);
  last = now;
  if (stale || clock.time !== drawn) {
    stale = false;
    drawn = clock.time;
    show(clock.time);
  }
  requestAnimationFrame(frame);
}

find("seek").max = page.seconds;
find("tied").hidden = dances.length < 2;
find("mute").hidden = page.song === null;
tie(true);
setFollow(true);
layOut();
requestAnimationFrame((now) => {
  last = now;
  frame(now);
});
