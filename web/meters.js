// Level meters: how loud a stream is, from its samples.

const QUIETEST_DB = -60;
const EVERY_MS = 50;
const FALL_PER_TICK = 0.06; // a meter rises at once and falls slowly, so that an eye can follow

/** All meters of the page share one audio context; it may start only on a person's click. */
export class Meters {
  #context = null;
  #meters = new Map();
  #timer = null;

  /** Show the level of a track in an element with `data-level` (0 to 1). */
  attach(element, track) {
    this.detach(element);
    this.#context ??= new AudioContext();
    void this.#context.resume();
    const source = this.#context.createMediaStreamSource(new MediaStream([track]));
    const analyser = new AnalyserNode(this.#context, { fftSize: 2048 });
    source.connect(analyser);
    this.#meters.set(element, { source, analyser, samples: new Float32Array(analyser.fftSize), shown: 0 });
    this.#timer ??= setInterval(() => this.#tick(), EVERY_MS);
  }

  detach(element) {
    this.#meters.get(element)?.source.disconnect();
    this.#meters.delete(element);
    show(element, 0);
  }

  /** Measure again, on a person's click, where the browser did not let it begin by itself. */
  resume() {
    void this.#context?.resume();
  }

  /** Detach all and let go of the sound hardware. */
  async close() {
    for (const element of [...this.#meters.keys()]) this.detach(element);
    clearInterval(this.#timer);
    this.#timer = null;
    const context = this.#context;
    this.#context = null;
    await context?.close();
  }

  #tick() {
    for (const [element, meter] of this.#meters) {
      meter.analyser.getFloatTimeDomainData(meter.samples);
      meter.shown = Math.max(levelOf(meter.samples), meter.shown - FALL_PER_TICK, 0);
      show(element, meter.shown);
    }
  }
}

/** Root mean square in decibels below full scale, mapped from −60…0 dB to 0…1. */
export function levelOf(samples) {
  const power = samples.reduce((sum, sample) => sum + sample * sample, 0) / samples.length;
  const decibels = 10 * Math.log10(power + 1e-12);
  return Math.min(1, Math.max(0, 1 - decibels / QUIETEST_DB));
}

function show(element, level) {
  element.dataset.level = level.toFixed(3);
  element.setAttribute("aria-valuenow", Math.round(level * 100));
  element.firstElementChild.style.transform = `scaleX(${level.toFixed(3)})`;
}
