// A form on its way: what was typed stays whatever happens, what is wrong is said at its field, and what it makes is made once.

import { useSignal } from "../ui/ui.js";
import { onceOnly } from "./doubts.js";
import { explain, whatIsWrong } from "./errors.js";

/**
 * `errors` is a signal of texts by field ("" for the whole form). `send(draft, make, post)`: `make()` gives the body, `post(body, key)`
 * sends it; resolves with the answer, or null when it failed and what is wrong is said. `makes`: where something new is made, what
 * it is and of what, so that the same content in doubt is sent under its key. `known`: whether there is a field of that name.
 */
export function useSending({ makes, known = () => true } = {}) {
  const errors = useSignal({}), busy = useSignal(false);
  const send = async (draft, make, post) => {
    if (busy.value) return null;
    busy.value = true;
    errors.value = {};
    try {
      const answer = makes ? await onceOnly(`${makes} ${JSON.stringify(draft)}`, make, post) : await post(make());
      return answer ?? true;
    } catch (error) {
      const isKnown = error.param && known(error.param);
      errors.value = { [isKnown ? error.param : ""]: isKnown ? whatIsWrong(error) : explain(error) };
      return null;
    } finally { busy.value = false; }
  };
  return { errors, busy, send };
}

/** Brings the first field that is wrong into sight. */
export function showFirstError(form) {
  requestAnimationFrame(() => form?.querySelector('[aria-invalid="true"], [role="alert"]')?.scrollIntoView({ block: "center" }));
}
