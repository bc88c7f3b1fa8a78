// How fast an item goes: what was taken over the last minute, and how long the rest lasts at that pace.

const OVER_MS = 60_000, MOST_SEEN = 90, ENOUGH_MS = 8_000;

export class Pace {
  #seen = []; // {at, taken}, oldest first; the first may be older than a minute, so that a whole one can be said

  /** `taken`: units that are not there to be sold, held and paid together. What comes back counts against what goes. */
  saw(at, taken) {
    this.#seen.push({ at, taken });
    while (this.#seen.length > 2 && (this.#seen[1].at <= at - OVER_MS || this.#seen.length > MOST_SEEN)) this.#seen.shift();
  }

  /** `{units, over_ms}`, or null where too little was seen to say anything. */
  lately() {
    const first = this.#seen[0], last = this.#seen.at(-1);
    if (!first || last.at - first.at < ENOUGH_MS) return null;
    return { units: last.taken - first.taken, over_ms: last.at - first.at };
  }
}

/** In ms how long `left` units last at a pace; null where nothing was sold. */
export function lastsFor(left, pace) {
  return pace && pace.units > 0 ? (left * pace.over_ms) / pace.units : null;
}
