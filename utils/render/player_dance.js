/* A dance as the page holds it: joints unpacked from base64, looked up at any time between frames. */

function bytesOf(base64) {
  const text = atob(base64);
  const bytes = new Uint8Array(text.length);
  for (let i = 0; i < text.length; i++) bytes[i] = text.charCodeAt(i);
  return bytes;
}

/** How many of the ascending numbers are at most x. */
function countUpTo(numbers, x) {
  let low = 0;
  let high = numbers.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (numbers[middle] <= x) low = middle + 1;
    else high = middle;
  }
  return low;
}

class Dance {
  constructor(data) {
    Object.assign(this, data); // as player_data.py describes it
    this.root = new Float32Array(bytesOf(data.root).buffer);
    this.pose = new Int16Array(bytesOf(data.pose).buffer);
    this.numJoints = this.pose.length / this.frames / 3 + 1;
    this.seconds = this.frames / this.fps;
    this.out = new Float64Array(3 * this.numJoints);
  }

  /** Joints at a time, x y z after each other, metres; the array is used again by the next call. */
  joints(time) {
    const at = Math.min(Math.max(time * this.fps, 0), this.frames - 1);
    const frame = Math.floor(at);
    const next = Math.min(frame + 1, this.frames - 1);
    const share = at - frame;
    const { root, pose, out, scale } = this;
    for (let axis = 0; axis < 3; axis++) {
      out[axis] = root[3 * frame + axis] * (1 - share) + root[3 * next + axis] * share;
    }
    const each = out.length - 3;
    for (let i = 0; i < each; i++) {
      const relative = pose[frame * each + i] * (1 - share) + pose[next * each + i] * share;
      out[3 + i] = out[i % 3] + relative * scale;
    }
    return out;
  }

  /** One joint at a time, [x, y, z]. */
  joint(index, time) {
    const frame = Math.round(Math.min(Math.max(time * this.fps, 0), this.frames - 1));
    const place = [0, 1, 2].map((axis) => this.root[3 * frame + axis]);
    if (!index) return place;
    const first = 3 * (frame * (this.numJoints - 1) + index - 1);
    return place.map((value, axis) => value + this.pose[first + axis] * this.scale);
  }

  /** Where the camera looks: above which x and z. */
  target(time, follow) {
    if (!follow) return this.still;
    const at = Math.min(Math.max(time * this.walkHz, 0), this.walk.length / 2 - 1);
    const low = Math.floor(at);
    const high = Math.min(low + 1, this.walk.length / 2 - 1);
    return [0, 1].map((axis) => this.walk[2 * low + axis] * (1 - at + low) + this.walk[2 * high + axis] * (at - low));
  }

  /** The code of a half at a time; the last one lasts to the end; null where there are none. */
  code(half, time) {
    const codes = this[half];
    if (!codes.length) return null;
    return codes[Math.min(Math.max(Math.floor(time / this.codeSeconds + 1e-6), 0), codes.length - 1)];
  }

  /** Runs of equal codes between two times: [code, start, end] in seconds. */
  runs(half, from, to) {
    const codes = this[half];
    const found = [];
    let at = Math.max(0, Math.min(Math.floor(from / this.codeSeconds), codes.length - 1));
    while (at > 0 && codes[at - 1] === codes[at]) at--;
    while (at < codes.length && at * this.codeSeconds < Math.min(to, this.seconds)) {
      let end = at + 1;
      while (end < codes.length && codes[end] === codes[at]) end++;
      found.push([codes[at], at * this.codeSeconds, Math.min(end * this.codeSeconds, this.seconds)]);
      at = end;
    }
    return found;
  }

  /** Mean speed of the joints at a time, m/s. */
  speedAt(time) {
    const at = Math.min(Math.max(time * this.speedHz, 0), this.speed.length - 1);
    const low = Math.floor(at);
    const high = Math.min(low + 1, this.speed.length - 1);
    return (this.speed[low] * (1 - at + low) + this.speed[high] * (at - low)) / 100;
  }

  /** How strongly a beat of the music shows: 1 at the beat, then falling. */
  pulse(time) {
    const passed = countUpTo(this.musicBeats, time + 1e-3);
    return passed && time < this.seconds ? Math.exp(-(time - this.musicBeats[passed - 1]) / 0.14) : 0;
  }
}
