// Acts that are done once: whoever asks for the same again while its outcome is not known asks under the key of before.

import { freshKey } from "peakgate";

const KEPT_MS = 600_000; // who asks for the same later than this means it anew
const MOST_KEPT = 50;

// Of the page, not of a form: one that was closed and opened again still means the same act.
const running = new Map(); // by name: the promise of its answer
const doubtful = new Map(); // by name: {key, body, at}

/**
 * Does the act of that name by `post(body, key)`; `make()` gives its body. One that runs is not sent again, and one in doubt
 * is sent as it was: a key stands for one content.
 */
export function onceOnly(name, make, post) {
  if (!running.has(name)) running.set(name, done(name, make, post).finally(() => running.delete(name)));
  return running.get(name);
}

async function done(name, make, post) {
  const had = doubtful.get(name), isSame = had && Date.now() - had.at < KEPT_MS;
  const { key, body } = isSame ? had : { key: freshKey(), body: make() };
  doubtful.delete(name);
  try {
    return await post(body, key);
  } catch (error) {
    // What was not looked at says nothing of the try before.
    if (error.isDoubtful || (isSame && (error.retryable || error.code === "unauthorized"))) {
      doubtful.set(name, { key, body, at: Date.now() });
      if (doubtful.size > MOST_KEPT) doubtful.delete(doubtful.keys().next().value);
    }
    throw error;
  }
}
