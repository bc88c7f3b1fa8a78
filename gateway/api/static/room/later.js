// Parts that nobody needs in the first moment are fetched after it: the room can be used before they are there.

import { html, signal, useEffect } from "../ui/ui.js";

const FIRST_WAIT_MS = 500, LAST_WAIT_MS = 15_000;

/** A component by its name in a module: nothing until it came. A network that is away is tried again. */
export function later(name, load) {
  const found = signal(null);
  let asked = false;
  async function ask() {
    if (asked) return;
    asked = true;
    for (let tries = 0; !found.peek(); tries++) {
      try { found.value = (await load())[name]; } catch {
        await new Promise((resolve) => setTimeout(resolve, Math.min(LAST_WAIT_MS, FIRST_WAIT_MS * 2 ** tries)));
      }
    }
  }
  return function Later(props) {
    useEffect(() => { ask(); }, []);
    const Part = found.value;
    return Part && html`<${Part} ...${props} />`;
  };
}
