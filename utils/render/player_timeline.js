/* What happens when: the whole dance small above, and lanes around the moment: beats, speed, codes. */

const GUTTER = 52; // pixels for the names of the rows
const RULER = 18;
const NAME = 17;
const SPEED = 34;
const ROW = 18;
const GAP = 8;
const FONT = 'system-ui, -apple-system, "Segoe UI", Roboto, "Liberation Sans", sans-serif';

/** A colour of its own for every code: hues a golden angle apart. */
const codeColour = (code) => `hsl(${(code * 137.508) % 360} 52% 62%)`;

function fitCanvas(canvas, height) {
  const ratio = Math.min(window.devicePixelRatio || 1, 2);
  const width = Math.max(canvas.clientWidth, 1);
  if (height) canvas.style.height = `${height}px`;
  canvas.width = Math.round(width * ratio);
  canvas.height = Math.round((height || canvas.clientHeight) * ratio);
  const context = canvas.getContext("2d");
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  return [context, width, height || canvas.clientHeight];
}

function clockText(seconds, digits = 1) {
  const parts = 10 ** digits;
  const whole = Math.floor(seconds * parts + 1e-6);
  const minutes = Math.floor(whole / (60 * parts));
  return `${minutes}:${((whole - minutes * 60 * parts) / parts).toFixed(digits).padStart(digits ? 3 + digits : 2, "0")}`;
}

class Timeline {
  constructor(canvas, overview, dances, seconds) {
    Object.assign(this, { canvas, overview, dances, seconds, span: 10, from: 0 });
    this.top = Math.max(1, ...dances.map((dance) => Math.max(...dance.speed))) / 100; // m/s
    this.beats = (dances.find((dance) => dance.musicBeats.length) || dances[0]).musicBeats;
    let y = RULER;
    this.lanes = dances.map((dance) => {
      const lane = { dance, name: y, speed: y + (dances.length > 1 ? NAME : 2) };
      lane.upper = lane.speed + SPEED + 3;
      lane.lower = lane.upper + (dance.upper.length ? ROW + 2 : 0);
      lane.end = lane.lower + (dance.lower.length ? ROW : 0);
      y = lane.end + GAP;
      return lane;
    });
    this.height = y - GAP + 2;
  }

  resize(colours) {
    this.colours = colours;
    [this.context, this.width, this.tall] = fitCanvas(this.canvas, this.height);
    this.drawOverview();
  }

  get shown() {
    return this.span ? Math.min(this.span, this.seconds) : this.seconds;
  }

  /** Lets the shown seconds go with the time, a third before it and the rest after. */
  moveTo(time) {
    this.from = Math.min(Math.max(time - 0.35 * this.shown, 0), this.seconds - this.shown);
  }

  x(time) {
    return GUTTER + ((time - this.from) / this.shown) * (this.width - GUTTER);
  }

  timeAt(x) {
    return Math.min(Math.max(this.from + ((x - GUTTER) / (this.width - GUTTER)) * this.shown, 0), this.seconds);
  }

  /** What is at a place: a line of text. */
  describe(x, y) {
    const time = this.timeAt(x);
    for (const { dance, name, upper, lower, end } of this.lanes) {
      if (y < name || y > end + GAP / 2 || time > dance.seconds) continue;
      const half = y >= lower && dance.lower.length ? "lower" : y >= upper && dance.upper.length ? "upper" : null;
      const what = half ? `${half} ${dance.code(half, time)}` : `${dance.speedAt(time).toFixed(2)} m/s`;
      return `${what} · ${clockText(time, 2)}`;
    }
    return clockText(time, 2);
  }

  drawOverview() {
    const [context, width, height] = fitCanvas(this.overview, 0);
    context.clearRect(0, 0, width, height);
    const x = (time) => 2 + (time / this.seconds) * (width - 4);
    context.fillStyle = this.colours.accent;
    context.globalAlpha = this.beats.length > width / 4 ? 0.35 : 0.6;
    for (const beat of this.beats) context.fillRect(x(beat) - 0.5, height - 6, 1, 6);
    this.dances.forEach((dance, at) => {
      context.beginPath();
      context.moveTo(x(0), height - 8);
      const pieces = Math.min(Math.round(width), dance.speed.length);
      for (let i = 0; i <= pieces; i++) {
        const time = (dance.seconds * i) / pieces;
        context.lineTo(x(time), height - 8 - (dance.speedAt(time) / this.top) * (height - 11));
      }
      context.lineTo(x(dance.seconds), height - 8);
      context.fillStyle = context.strokeStyle = this.colours.soft;
      context.globalAlpha = at ? 0.8 : 0.42;
      if (at) context.stroke();
      else context.fill();
    });
    context.globalAlpha = 1;
  }

  draw(time) {
    const { context, width, height, colours } = this;
    context.clearRect(0, 0, width, height);
    context.font = `11px ${FONT}`;
    context.textBaseline = "middle";
    this.drawRuler();
    for (const lane of this.lanes) this.drawLane(lane, time);
    const now = this.x(time);
    context.fillStyle = colours.ink;
    context.fillRect(now - 1, 0, 2, height);
    context.beginPath();
    context.moveTo(now - 5, 0);
    context.lineTo(now + 5, 0);
    context.lineTo(now, 7);
    context.fill();
  }

  drawRuler() {
    const { context, colours } = this;
    const least = (70 / (this.width - GUTTER)) * this.shown; // seconds between two numbers
    const step = [0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600].find((each) => each >= least) || 1800;
    context.fillStyle = colours.soft;
    context.textAlign = "center";
    for (let at = Math.ceil(this.from / step); at * step <= this.from + this.shown; at++) {
      const x = this.x(at * step);
      if (x < GUTTER + 12 || x > this.width - 16) continue;
      context.fillText(clockText(at * step, step < 1 ? 1 : 0), x, RULER / 2);
    }
  }

  drawLane({ dance, name, speed, upper, lower, end }, time) {
    const { context, colours } = this;
    const to = this.from + this.shown;
    context.fillStyle = colours.ink;
    context.textAlign = "left";
    if (this.dances.length > 1) {
      context.font = `600 12px ${FONT}`;
      context.fillText(dance.name, 0, name + NAME / 2, this.width);
      context.font = `11px ${FONT}`;
    }
    context.fillStyle = colours.soft;
    context.fillText("speed", 0, speed + SPEED / 2);
    for (const [half, y] of [["upper", upper], ["lower", lower]]) {
      if (!dance[half].length) continue;
      context.fillStyle = colours[half];
      context.fillRect(0, y + 3, 4, ROW - 6);
      context.fillStyle = colours.soft;
      context.fillText(half, 9, y + ROW / 2);
    }
    context.save();
    context.beginPath();
    context.rect(GUTTER, speed - 3, this.width - GUTTER, end - speed + 6);
    context.clip();
    context.fillStyle = colours.accent;
    const first = countUpTo(dance.musicBeats, this.from - 0.1);
    context.globalAlpha = this.shown > 60 ? 0.3 : 0.75;
    for (let at = first; at < dance.musicBeats.length && dance.musicBeats[at] < to; at++) {
      context.fillRect(this.x(dance.musicBeats[at]) - 0.75, speed - 2, 1.5, SPEED + 3);
    }
    context.globalAlpha = 1;
    this.drawSpeed(dance, speed, to);
    this.drawCodes(dance, "upper", upper, time, to);
    this.drawCodes(dance, "lower", lower, time, to);
    context.restore();
  }

  drawSpeed(dance, top, to) {
    const { context, colours } = this;
    const y = (time) => top + SPEED - 3 - (dance.speedAt(time) / this.top) * (SPEED - 6);
    const end = Math.min(to, dance.seconds);
    const step = Math.max(1 / dance.speedHz, this.shown / (this.width - GUTTER));
    context.beginPath();
    for (let at = Math.floor(this.from / step); at * step <= end; at++) context.lineTo(this.x(at * step), y(at * step));
    context.strokeStyle = colours.soft;
    context.lineWidth = 1.5;
    context.stroke();
    const dot = this.shown > 60 ? 1.2 : 2.8;
    context.fillStyle = colours.ink;
    for (let at = countUpTo(dance.motionBeats, this.from - 0.5); this.shown < 300 && at < dance.motionBeats.length; at++) {
      const beat = dance.motionBeats[at];
      if (beat > to + 0.5) break;
      context.beginPath();
      context.arc(this.x(beat), y(beat + 0.5 / dance.fps), dot, 0, 2 * Math.PI);
      context.fill();
    }
  }

  drawCodes(dance, half, top, time, to) {
    const { context, colours } = this;
    context.textAlign = "center";
    let filled = 0; // pixels up to here are done: an hour has more codes than the picture has columns
    for (const [code, start, end] of dance.runs(half, this.from, to)) {
      const [left, right] = [this.x(start), this.x(end)];
      if (code < 0 || right < filled + 0.75) continue; // below zero: the dancer rests
      filled = right;
      const now = time >= start - 1e-6 && time < end - 1e-6;
      context.fillStyle = codeColour(code);
      context.globalAlpha = now ? 1 : 0.62;
      context.beginPath();
      context.roundRect(left + 0.5, top, Math.max(right - left - 1, 0.5), ROW, Math.min(3, (right - left) / 3));
      context.fill();
      context.globalAlpha = 1;
      if (now) {
        context.strokeStyle = colours.ink;
        context.lineWidth = 1.5;
        context.stroke();
      }
      const text = String(code);
      if (right - left < 7 * text.length + 3) continue;
      context.fillStyle = "#10131c";
      context.fillText(text, (Math.max(left, GUTTER) + right) / 2, top + ROW / 2 + 0.5);
    }
  }
}
