// A field of a form: its label, its hint and what is wrong with it, tied to it for whoever does not see them.

import { cloneElement } from "preact";
import { html } from "../ui/ui.js";

/** Its one child is the input. */
export function Field({ id, label, hint, error, kind = "", children }) {
  const input = Array.isArray(children) ? children.find((each) => each?.type) : children;
  const told = [hint && `${id}-hint`, error && `${id}-error`].filter(Boolean).join(" ") || null;
  return html`<div class=${`field ${kind}`}>
    <label for=${id}>${label}</label>
    ${cloneElement(input, { id, "aria-describedby": told, "aria-invalid": error ? "true" : null })}
    ${hint && html`<span class="hint" id=${`${id}-hint`}>${hint}</span>`}
    ${error && html`<span class="error" id=${`${id}-error`}>${error}</span>`}
  </div>`;
}

/** One of a few, as a row of radio buttons: `of` is `[[value, label], …]`. */
export function Choice({ name, label, of, value, onPick, error }) {
  return html`<fieldset class="choice"><legend>${label}</legend>
    <div class="choice-row">${of.map(([each, word]) => html`<label key=${each} class=${each === value ? "picked" : ""}>
      <input type="radio" name=${name} value=${each} checked=${each === value}
          onChange=${() => onPick(each)} /><span>${word}</span></label>`)}</div>
    ${error && html`<span class="error">${error}</span>`}
  </fieldset>`;
}
