// What is said in the room: the last hundred comments, told at most once a frame, however fast they come.

import { batch, signal } from "@preact/signals";

const MOST_SHOWN = 100, MOST_WAITING = 100, A_FRAME = 20, FOR_DANMAKU = 20;
const frame = globalThis.requestAnimationFrame?.bind(globalThis) ?? ((work) => setTimeout(work, 16));

export function openTalk({ me }) {
  const comments = signal([]), said = signal(0), skipped = signal(0);
  const listeners = new Set(), goneListeners = new Set();
  let waiting = [], asked = false;

  /** A frame takes in twenty at most; what waits behind a hundred is too old to be read and is only counted. */
  function flush() {
    asked = false;
    const taken = waiting.splice(0, A_FRAME);
    if (taken.length) {
      batch(() => {
        comments.value = [...comments.peek(), ...taken].slice(-MOST_SHOWN);
        said.value += taken.length;
      });
    }
    if (waiting.length) ask();
  }

  function ask() {
    if (asked) return;
    asked = true;
    frame(flush);
  }

  function put(comment) {
    waiting.push(comment);
    if (waiting.length > MOST_WAITING) {
      const over = waiting.length - MOST_WAITING;
      waiting.splice(0, over);
      if (!globalThis.document?.hidden) skip(over); // nobody missed what nobody looked for
    }
    ask();
  }

  function skip(n) { skipped.value += n; }

  const shown = ({ comment, viewer, name, text, at_ms }) => ({ comment, viewer, name, text, at_ms, mine: viewer === me.peek() });
  const has = (id) => waiting.some((each) => each.comment === id) || comments.peek().some((each) => each.comment === id);
  const tell = (comment) => { for (const listener of listeners) listener(comment); };

  return {
    comments,
    /** How many were taken in so far. */
    said,
    /** How many were not shown here, by the gateway's choice or this page's. */
    skipped,
    skip,
    /** The room as it is: it replaces what was shown. */
    start(recent) {
      waiting = [];
      comments.value = recent.map(shown).slice(-MOST_SHOWN);
    },
    add(event) {
      const comment = shown(event);
      // The own one was drawn from its answer.
      if (comment.mine && has(comment.comment)) return;
      put(comment);
      if (waiting.length <= FOR_DANMAKU) tell(comment);
    },
    /** The own one, from the gateway's answer: it is drawn also where a busy room shows a part. */
    mine(comment) {
      if (has(comment.comment)) return;
      put({ ...comment, mine: true });
      tell({ ...comment, mine: true });
    },
    /** One, or all of a viewer's. */
    remove({ comment, viewer }) {
      const stays = comment ? (each) => each.comment !== comment : (each) => each.viewer !== viewer;
      waiting = waiting.filter(stays);
      if (!comments.peek().every(stays)) comments.value = comments.peek().filter(stays);
      for (const listener of goneListeners) listener(stays);
    },
    /** `listener(stays)`: what of a comment shown elsewhere may stay. */
    onGone(listener) {
      goneListeners.add(listener);
      return () => goneListeners.delete(listener);
    },
    onComment(listener) {
      listeners.add(listener);
      return () => listeners.delete(listener);
    },
  };
}
