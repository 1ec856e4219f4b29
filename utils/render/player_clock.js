/* The clock of all dances. Where there is a song, its sound is the clock; else, and after its end, a timer is. */

const PATIENCE = 5000; // milliseconds that sound may take to begin

class Clock {
  /**
   * @param seconds of the longest dance
   * @param song of the page: an m4a file in base64, or null
   * @param tell called with a line for the reader when the song cannot be played
   */
  constructor(seconds, song, tell) {
    Object.assign(this, { seconds, tell, time: 0, playing: false, loop: true, speed: 1, sound: null });
    this.heard = false; // the sound runs
    this.asked = 0; // when it was asked to
    if (song === null) return;
    this.sound = new Audio(URL.createObjectURL(new Blob([bytesOf(song)], { type: "audio/mp4" })));
    this.sound.preload = "auto";
    this.sound.addEventListener("playing", () => (this.heard = true));
    this.sound.addEventListener("seeked", () => (this.heard = this.sound !== null && !this.sound.paused));
    this.sound.addEventListener("waiting", () => this.awaitSound());
    this.sound.addEventListener("error", () => this.giveUp("This browser cannot play the song; the dance is silent."));
  }

  giveUp(why) {
    if (!this.sound) return;
    this.sound.pause();
    this.sound = null;
    this.tell(why);
  }

  awaitSound() {
    this.heard = false;
    this.asked = performance.now();
  }

  /** Whether the song has sound at this time. */
  get sounding() {
    return this.sound !== null && !(this.time >= (this.sound.duration || this.seconds) - 0.02);
  }

  play() {
    if (this.time >= this.seconds - 1e-3) this.seek(0);
    this.playing = true;
    this.askSound();
  }

  askSound() {
    if (!this.sounding) return;
    this.awaitSound();
    this.sound.currentTime = this.time;
    this.sound.playbackRate = this.speed;
    this.sound.play().catch((error) => {
      if (error.name === "NotAllowedError") this.pause();
      else if (error.name !== "AbortError") this.giveUp("This browser cannot play the song; the dance is silent.");
    });
  }

  pause() {
    this.playing = false;
    if (this.sound) this.sound.pause();
  }

  seek(time) {
    this.time = Math.min(Math.max(time, 0), this.seconds);
    if (!this.sound) return;
    if (this.playing && this.sounding && !this.sound.paused) {
      this.awaitSound();
      this.sound.currentTime = this.time;
    } else if (this.playing && this.sounding) this.askSound();
    else this.sound.pause();
  }

  setSpeed(speed) {
    this.speed = speed;
    if (this.sound) this.sound.playbackRate = speed;
  }

  /** Moves on by the seconds that have passed since the last call. */
  tick(passed) {
    if (!this.playing) return;
    if (this.sounding && !this.sound.ended) {
      if (!this.heard) {
        if (performance.now() - this.asked > PATIENCE) this.giveUp("The song does not start; the dance is silent.");
        return;
      }
      this.time += passed * this.speed; // the sound's own time comes in steps: smooth, but never far from it
      const ahead = this.time - this.sound.currentTime;
      this.time -= Math.abs(ahead) > 0.1 ? ahead : 0.1 * ahead;
    } else {
      this.time += Math.min(passed, 0.25) * this.speed;
    }
    if (this.time < this.seconds) return;
    if (this.loop) this.seek(0);
    else {
      this.time = this.seconds;
      this.pause();
    }
  }
}
