// Parts that nobody needs in the first moment are fetched after it: the room can be used before they are there. What is
// not needed yet is fetched at leisure, so that it is there when the network is not.

import { html, signal, useEffect } from "../ui/ui.js";

const FIRST_WAIT_MS = 500, LAST_WAIT_MS = 15_000, AT_LEISURE_MS = 4_000;

/**
 * A component by its name in a module: nothing until it came. `isNeeded(props)` says whether it has anything to show. A network
 * that is away is tried again.
 */
export function later(name, load, isNeeded = () => true) {
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
    const needed = isNeeded(props);
    useEffect(() => {
      if (needed) return void ask();
      const timer = setTimeout(ask, AT_LEISURE_MS);
      return () => clearTimeout(timer);
    }, [needed]);
    const Part = found.value;
    return Part && html`<${Part} ...${props} />`;
  };
}
