// A form on its way: what was typed stays whatever happens, what is wrong is said at its field, and a send whose outcome is
// not known is repeated as it was, under its key, so that nothing is made twice.

import { useRef, useSignal } from "../ui/ui.js";
import { freshKey } from "peakgate";
import { explain, whatIsWrong } from "./errors.js";

const IN_DOUBT = new Set(["offline", "outcome_unknown", "internal"]);

/**
 * `errors` is a signal of texts by field ("" for the whole form). `send(draft, make, post)`: `make()` gives the body, `post(body, key)`
 * sends it; resolves with the answer, or null when it failed and what is wrong is said. `map` turns a `param` into a field's name.
 */
export function useSending({ map = (param) => param, known = () => true } = {}) {
  const errors = useSignal({}), busy = useSignal(false), doubtful = useRef(null);
  const send = async (draft, make, post) => {
    if (busy.value) return null;
    busy.value = true;
    errors.value = {};
    const typed = JSON.stringify(draft), before = doubtful.current?.typed === typed ? doubtful.current : null;
    const { body, key } = before ?? { body: make(), key: freshKey() };
    try {
      const answer = await post(body, key);
      doubtful.current = null;
      return answer ?? true;
    } catch (error) {
      doubtful.current = IN_DOUBT.has(error.code) ? { typed, body, key } : null;
      const field = error.param ? map(error.param) : "";
      const isKnown = field && known(field);
      errors.value = { [isKnown ? field : ""]: isKnown ? whatIsWrong(error) : explain(error) };
      return null;
    } finally { busy.value = false; }
  };
  return { errors, busy, send };
}

/** Brings the first field that is wrong into sight. */
export function showFirstError(form) {
  requestAnimationFrame(() => form?.querySelector('[aria-invalid="true"], [role="alert"]')?.scrollIntoView({ block: "center" }));
}
