/* The stage: the floor and the dancer of tapered limbs, as the videos draw them. */

const HEAD = 0.105; // metres
const REACH = 4.5; // metres from the target to where the grid has faded out
const TRAIL_SECONDS = 2.5;
const SHADOW = [[1, 0.15], [0.6, 0.18], [0.25, 0.22]]; // spread and strength of its layers
const LOOKS = {
  dark: { top: "#0b0d14", low: "#1b1f2e", near: "#323850", far: "#171a27", grid: "140,173,242", gridShare: 0.42,
    ring: "255,219,128", outline: "#0d0f17", shade: 1 },
  light: { top: "#dfe6f3", low: "#f1f4fa", near: "#ffffff", far: "#e3e8f3", grid: "74,98,150", gridShare: 0.4,
    ring: "214,142,20", outline: "#1b2030", shade: 0.45 },
};

/** Adds the hull of two discs to the path. */
function capsule(context, x, y, r, x2, y2, r2) {
  const length = Math.max(Math.hypot(x2 - x, y2 - y), 1e-9);
  const angle = Math.atan2(y2 - y, x2 - x);
  const opening = Math.acos(Math.min(Math.max((r - r2) / length, -1), 1));
  context.moveTo(x2 + r2 * Math.cos(angle - opening), y2 + r2 * Math.sin(angle - opening));
  context.arc(x2, y2, r2, angle - opening, angle + opening);
  context.arc(x, y, r, angle + opening, angle - opening + 2 * Math.PI);
  context.closePath();
}

/** The same hull lying on the floor, as corners [x, z]. */
function floorCapsule(x, z, r, x2, z2, r2) {
  const length = Math.max(Math.hypot(x2 - x, z2 - z), 1e-9);
  const angle = Math.atan2(z2 - z, x2 - x);
  const opening = Math.acos(Math.min(Math.max((r - r2) / length, -1), 1));
  const corners = [];
  for (let i = 0; i <= 5; i++) {
    const turn = angle + opening * (2 * i / 5 - 1);
    corners.push([x2 + r2 * Math.cos(turn), z2 + r2 * Math.sin(turn)]);
  }
  for (let i = 0; i <= 5; i++) {
    const turn = angle + Math.PI + (Math.PI - opening) * (2 * i / 5 - 1);
    corners.push([x + r * Math.cos(turn), z + r * Math.sin(turn)]);
  }
  return corners;
}

function lighter(colour, share) {
  const channels = [1, 3, 5].map((at) => parseInt(colour.slice(at, at + 2), 16));
  return `rgb(${channels.map((value) => Math.round(value + share * (255 - value))).join(",")})`;
}

/** Draws one dance on one canvas. */
class Stage {
  constructor(canvas, dance, skeleton, lower) {
    Object.assign(this, { canvas, dance, skeleton, view: freshView() });
    this.context = canvas.getContext("2d");
    this.lower = [1, 3, 5].map((at) => parseInt(lower.slice(at, at + 2), 16)).join(",");
    this.streaks = skeleton.colours.map((colour) => lighter(colour, 0.22));
  }

  resize() {
    const ratio = Math.min(window.devicePixelRatio || 1, 2);
    this.width = Math.max(this.canvas.clientWidth, 1);
    this.height = Math.max(this.canvas.clientHeight, 1);
    this.canvas.width = Math.round(this.width * ratio);
    this.canvas.height = Math.round(this.height * ratio);
    this.ratio = ratio;
  }

  camera(time, { follow, tall, wide }) {
    const standing = Math.max(2.5, 1.4 * tall);
    const span = Math.max(standing, (1.1 * wide * this.height) / this.width);
    const [x, z] = this.dance.target(time, follow);
    return new Camera(this.view, [x, this.dance.floor + 0.36 * standing, z], span, this.width, this.height);
  }

  draw(time, options) {
    const look = LOOKS[options.look];
    const camera = this.camera(time, options);
    const joints = this.dance.joints(time);
    this.seen = camera;
    this.context.setTransform(this.ratio, 0, 0, this.ratio, 0, 0);
    this.drawGround(camera, look);
    this.drawGrid(camera, look);
    this.drawTrail(camera, time, options.trail);
    this.drawRing(camera, look, joints, this.dance.pulse(time));
    this.drawShadow(camera, look, joints);
    this.drawFigure(camera, look, joints);
  }

  drawGround(camera, look) {
    const { context, width, height } = this;
    const horizon = Math.max(-1, camera.horizon);
    if (horizon > 0) {
      const sky = context.createLinearGradient(0, Math.min(0, horizon - 0.6 * height), 0, horizon);
      sky.addColorStop(0, look.top);
      sky.addColorStop(1, look.low);
      context.fillStyle = sky;
      context.fillRect(0, 0, width, Math.min(horizon + 1, height));
    }
    if (horizon >= height) return;
    const floor = context.createLinearGradient(0, horizon, 0, horizon + 0.45 * height);
    floor.addColorStop(0, look.low);
    floor.addColorStop(1, look.far);
    context.fillStyle = floor;
    context.fillRect(0, Math.max(horizon, 0), width, height);
    const [x, y, scale] = camera.see(camera.target[0], this.dance.floor, camera.target[2]);
    const flat = Math.max(Math.sin(this.view.pitch), 0.02); // a round light seen from the side
    context.save();
    context.beginPath();
    context.rect(0, Math.max(horizon, 0), width, height);
    context.clip();
    context.translate(x, y);
    context.scale(1, flat);
    const glow = context.createRadialGradient(0, 0, 0, 0, 0, 4.6 * scale);
    for (let i = 0; i <= 8; i++) {
      const strength = (Math.exp(-((((i / 8) * 4.6) / 2.6) ** 2)) - 0.043) / 0.957;
      glow.addColorStop(i / 8, look.near + Math.round(255 * Math.max(strength, 0)).toString(16).padStart(2, "0"));
    }
    context.fillStyle = glow;
    context.fillRect(-5 * scale, -5 * scale, 10 * scale, 10 * scale);
    context.restore();
  }

  /** Lines on the whole metres of the world, in short pieces that fade with the distance. */
  drawGrid(camera, look) {
    const { context } = this;
    const floor = this.dance.floor;
    const [centreX, , centreZ] = camera.target;
    const shades = Array.from({ length: 10 }, () => []);
    const add = (x, z, x2, z2) => {
      const off = Math.hypot((x + x2) / 2 - centreX, (z + z2) / 2 - centreZ) / REACH;
      const shade = Math.floor(10 * (1 - off));
      if (shade < 0) return;
      const [from, to] = [camera.see(x, floor, z), camera.see(x2, floor, z2)];
      if (from[3] > NEAR && to[3] > NEAR) shades[Math.min(shade, 9)].push([from, to]);
    };
    const step = 0.3;
    for (const [middle, other, swap] of [[centreX, centreZ, false], [centreZ, centreX, true]]) {
      for (let at = Math.ceil(middle - REACH); at <= middle + REACH; at++) {
        const half = Math.sqrt(Math.max(REACH ** 2 - (at - middle) ** 2, 0));
        for (let along = Math.floor((other - half) / step) * step; along < other + half; along += step) {
          if (swap) add(along, at, along + step, at);
          else add(at, along, at, along + step);
        }
      }
    }
    context.lineWidth = Math.max(1, this.height / 540);
    context.lineCap = "butt";
    shades.forEach((pieces, shade) => {
      context.strokeStyle = `rgba(${look.grid},${(look.gridShare * (shade + 0.5)) / 10})`;
      context.beginPath();
      for (const [from, to] of pieces) {
        context.moveTo(from[0], from[1]);
        context.lineTo(to[0], to[1]);
      }
      context.stroke();
    });
  }

  drawTrail(camera, time, what) {
    if (!what) return;
    const { context, dance } = this;
    const tracks = what === "root" ? [0] : this.skeleton[what];
    const pieces = 36;
    context.lineCap = "round";
    for (const joint of tracks) {
      let before = null;
      for (let piece = 0; piece <= pieces; piece++) {
        const back = time - (TRAIL_SECONDS * piece) / pieces;
        if (back < 0 || (back > dance.seconds && piece)) break;
        const [x, y, z] = dance.joint(joint, back);
        const now = camera.see(x, joint ? y : dance.floor, z);
        if (before && now[3] > NEAR && before[3] > NEAR) {
          context.strokeStyle = `rgba(${this.lower},${0.6 * (1 - piece / pieces) ** 1.5})`;
          context.lineWidth = 0.018 * now[2];
          context.beginPath();
          context.moveTo(before[0], before[1]);
          context.lineTo(now[0], now[1]);
          context.stroke();
        }
        before = now;
      }
    }
  }

  /** A ring that spreads over the floor after a beat. */
  drawRing(camera, look, joints, strength) {
    if (strength < 0.02) return;
    const { context } = this;
    const radius = 0.42 + 0.55 * (1 - strength);
    context.beginPath();
    for (let i = 0; i < 72; i++) {
      const turn = (i * Math.PI) / 36;
      const [x, y] = camera.see(
        joints[0] + radius * Math.cos(turn), this.dance.floor, joints[2] + radius * Math.sin(turn));
      context.lineTo(x, y);
    }
    context.closePath();
    context.strokeStyle = `rgba(${look.ring},${0.85 * strength})`;
    context.lineWidth = camera.see(joints[0], this.dance.floor, joints[2])[2] * (0.012 + 0.03 * strength);
    context.stroke();
  }

  /** Sharp where joints touch the floor, soft where they are high. */
  drawShadow(camera, look, joints) {
    const { context, skeleton } = this;
    const floor = this.dance.floor;
    for (const [spread, strength] of SHADOW) {
      context.beginPath();
      for (const [parent, child] of skeleton.bones) {
        const ends = [parent, child].map((joint) => {
          const high = Math.max(joints[3 * joint + 1] - floor, 0);
          return [joints[3 * joint], joints[3 * joint + 2], 0.8 * skeleton.radii[joint] + spread * (0.03 + 0.09 * high)];
        });
        const corners = floorCapsule(...ends[0], ...ends[1]).map(([x, z]) => camera.see(x, floor, z));
        if (corners.some((corner) => corner[3] < NEAR)) continue;
        corners.forEach(([x, y], at) => (at ? context.lineTo(x, y) : context.moveTo(x, y)));
        context.closePath();
      }
      context.fillStyle = `rgba(0,0,0,${strength * look.shade})`;
      context.fill();
    }
  }

  /** Tapered limbs with a lighter streak, the farthest first. */
  drawFigure(camera, look, joints) {
    const { context, skeleton } = this;
    const points = skeleton.radii.map((radius, joint) => {
      const seen = camera.see(joints[3 * joint], joints[3 * joint + 1], joints[3 * joint + 2]);
      return [seen[0], seen[1], radius * seen[2], seen[2], seen[3]];
    });
    const [head, neck] = [skeleton.head, skeleton.neck].map((joint) => joints.slice(3 * joint, 3 * joint + 3));
    const along = head.map((value, axis) => value - neck[axis]);
    const length = Math.max(Math.hypot(...along), 1e-6);
    const middle = camera.see(...head.map((value, axis) => value + (0.07 * along[axis]) / length));
    const ball = [middle[0], middle[1], HEAD * middle[2], middle[2], middle[3]];
    const limbs = skeleton.bones.map(([parent, child], at) => [points[parent], points[child], at]);
    limbs.push([ball, ball, limbs.length]);
    limbs.sort((a, b) => a[0][3] + a[1][3] - b[0][3] - b[1][3]);
    const mean = points.reduce((sum, point) => sum + point[3], 0) / points.length;
    context.lineWidth = Math.max(0.8, 0.01 * mean);
    context.lineJoin = "round";
    context.strokeStyle = look.outline;
    for (const [from, to, at] of limbs) {
      if (from[4] < NEAR || to[4] < NEAR) continue;
      context.beginPath();
      capsule(context, from[0], from[1], from[2], to[0], to[1], to[2]);
      context.fillStyle = skeleton.colours[at];
      context.fill();
      context.stroke();
      const ends = [from, to].flatMap(([x, y, r]) => [x - 0.168 * r, y - 0.224 * r, 0.42 * r]);
      context.beginPath();
      capsule(context, ...ends);
      context.fillStyle = this.streaks[at];
      context.fill();
    }
  }
}
