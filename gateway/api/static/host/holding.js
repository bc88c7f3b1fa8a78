// A list that is drawn as it comes, a few times a second, and stands still while somebody reads or acts in it: nothing slips away
// from under a finger. What stands still still shows what becomes of its lines.

import { effect, useEffect, useRef, useSignal } from "../ui/ui.js";

const GLIDES_MS = 600; // a list goes on for a moment when the finger has left it
const DRAWN_EVERY_MS = 120; // nobody reads more often, and 200 lines a second cost no more than ten

/**
 * `source`: the signal of the list. `shown`: what to draw; `held`: whether it stands still; `newOnes`: how many lines came since.
 * `hold(reason)`, `release(reason)`: it stands still while there is a reason; `release()` ends all of them. `hovered`: for its element.
 */
export function useHolding(source, idOf) {
  const shown = useSignal(source.value), held = useSignal(false), newOnes = useSignal(0);
  const why = useRef(new Set()).current, finger = useRef(null);
  const draw = () => {
    const now = source.peek();
    if (!held.peek()) {
      shown.value = now;
      return;
    }
    const latest = new Map(now.map((each) => [idOf(each), each])), was = shown.peek();
    let known = 0, isOther = false;
    const next = was.map((each) => {
      const found = latest.get(idOf(each));
      if (found) known++;
      if (!found || found === each) return each;
      isOther = true;
      return found;
    });
    newOnes.value = now.length - known;
    if (isOther) shown.value = next;
  };
  useEffect(() => {
    let timer = null;
    const stop = effect(() => {
      void source.value;
      timer ??= setTimeout(() => { timer = null; draw(); }, DRAWN_EVERY_MS);
    });
    return () => { clearTimeout(timer); stop(); };
  }, [source]);

  const hold = (reason) => {
    why.add(reason);
    if (held.peek()) return;
    newOnes.value = 0;
    held.value = true;
  };
  const release = (reason) => {
    if (reason) why.delete(reason);
    else why.clear();
    if (why.size || !held.peek()) return;
    held.value = false;
    draw();
  };
  const hovered = {
    onPointerEnter: (event) => event.pointerType === "mouse" && hold("hover"), onPointerLeave: () => release("hover"),
    onTouchStart: () => { clearTimeout(finger.current); hold("touch"); },
    onTouchEnd: () => { finger.current = setTimeout(() => release("touch"), GLIDES_MS); }, onTouchCancel: () => release("touch"),
    onFocusIn: (event) => event.target.matches(":focus-visible") && hold("focus"), onFocusOut: () => release("focus"),
  };
  return { shown, held, newOnes, hold, release, hovered };
}
