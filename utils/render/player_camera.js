/* The camera: how it sees, and how a mouse or fingers turn, move and zoom it. */

const OPENING = Math.tan((14 * Math.PI) / 180); // half of the picture's height over the distance
const FIRST_VIEW = { yaw: 0.3, pitch: 0.2, zoom: 1, move: [0, 0, 0] };
const NEAR = 0.25; // metres before the camera where lines are cut off

const freshView = () => ({ ...FIRST_VIEW, move: [0, 0, 0] });

/** A perspective camera at one moment. */
class Camera {
  constructor(view, target, span, width, height) {
    const { yaw, pitch } = view;
    const [sinY, cosY, sinP, cosP] = [Math.sin(yaw), Math.cos(yaw), Math.sin(pitch), Math.cos(pitch)];
    this.right = [cosY, 0, -sinY];
    this.up = [-sinY * sinP, cosP, -cosY * sinP];
    this.forward = [-sinY * cosP, -sinP, -cosY * cosP];
    this.target = target.map((value, axis) => value + view.move[axis]);
    this.distance = span / 2 / OPENING / view.zoom;
    this.focal = height / 2 / OPENING;
    this.middle = [width / 2, height / 2];
    this.horizon = height / 2 - this.focal * Math.tan(pitch);
  }

  /** [x, y, pixels per metre, depth] of a point. */
  see(x, y, z) {
    const [a, b, c] = [x - this.target[0], y - this.target[1], z - this.target[2]];
    const depth = a * this.forward[0] + b * this.forward[1] + c * this.forward[2] + this.distance;
    const scale = this.focal / Math.max(depth, 0.2);
    const across = a * this.right[0] + c * this.right[2];
    const above = a * this.up[0] + b * this.up[1] + c * this.up[2];
    return [this.middle[0] + across * scale, this.middle[1] - above * scale, scale, depth];
  }
}

/** Lets a mouse or fingers turn, move and zoom a stage's view; `changed` after each, `clicked` for a tap. */
function steer(stage, changed, clicked) {
  const { canvas } = stage;
  const fingers = new Map();
  let moved = 0;
  const between = () => {
    const [a, b] = [...fingers.values()];
    return [Math.hypot(a.x - b.x, a.y - b.y), (a.x + b.x) / 2, (a.y + b.y) / 2];
  };
  const shift = (dx, dy) => {
    const metre = stage.seen ? stage.seen.focal / stage.seen.distance : 100;
    const { right, up } = stage.seen;
    stage.view.move = stage.view.move.map((value, axis) => value - (right[axis] * dx - up[axis] * dy) / metre);
  };
  canvas.addEventListener("pointerdown", (event) => {
    canvas.setPointerCapture(event.pointerId);
    fingers.set(event.pointerId, { x: event.clientX, y: event.clientY });
    if (fingers.size === 1) moved = 0;
    else moved = 99;
  });
  canvas.addEventListener("pointermove", (event) => {
    const finger = fingers.get(event.pointerId);
    if (!finger) return;
    const [dx, dy] = [event.clientX - finger.x, event.clientY - finger.y];
    const before = fingers.size === 2 ? between() : null;
    Object.assign(finger, { x: event.clientX, y: event.clientY });
    moved += Math.abs(dx) + Math.abs(dy);
    if (before) {
      const after = between();
      zoomBy(stage.view, after[0] / Math.max(before[0], 1));
      shift(after[1] - before[1], after[2] - before[2]);
    } else if (event.shiftKey || event.buttons === 2) {
      shift(dx, dy);
    } else {
      turnBy(stage.view, -0.008 * dx, 0.006 * dy);
    }
    changed();
  });
  const lift = (event) => {
    const tap = fingers.delete(event.pointerId) && event.type === "pointerup" && moved < 5 && event.button === 0;
    if (tap && !fingers.size) clicked();
  };
  canvas.addEventListener("pointerup", lift);
  canvas.addEventListener("pointercancel", lift);
  canvas.addEventListener("contextmenu", (event) => event.preventDefault());
  canvas.addEventListener("wheel", (event) => {
    event.preventDefault();
    zoomBy(stage.view, Math.exp(-0.0012 * event.deltaY * (event.deltaMode ? 30 : 1)));
    changed();
  }, { passive: false });
}

function turnBy(view, yaw, pitch) {
  view.yaw += yaw;
  view.pitch = Math.min(Math.max(view.pitch + pitch, 0.01), 1.54);
}

function zoomBy(view, factor) {
  view.zoom = Math.min(Math.max(view.zoom * factor, 0.3), 6);
}
