// A second step before what cannot be taken back: what it does is said, and for the gravest a word is typed.

import { html, signal, useSignal, Button, Dialog } from "../ui/ui.js";
import { t } from "./words.js";

const asked = signal(null);

/** Resolves with whether it is wanted. `action` is what its button says; `word` has to be typed where it is given. */
export function sure({ title, text, action, word = null }) {
  asked.value?.resolve(false);
  return new Promise((resolve) => { asked.value = { title, text, action, word, resolve }; });
}

function answer(isSure) {
  const { resolve } = asked.value ?? {};
  asked.value = null;
  resolve?.(isSure);
}

export function SureDialog() {
  const open = asked.value;
  return html`<${Dialog} open=${open !== null} title=${open?.title ?? t("sure")} kind="sheet" onClose=${() => answer(false)}>
    ${open && html`<${Question} key=${open.title} ...${open} />`}
  <//>`;
}

function Question({ text, action, word }) {
  const typed = useSignal("");
  const isTyped = !word || typed.value.trim().toLowerCase() === word.toLowerCase();
  return html`<form class="stack" onSubmit=${(event) => { event.preventDefault(); if (isTyped) answer(true); }}>
    ${[text].flat().map((line) => html`<p>${line}</p>`)}
    ${word && html`<div class="field"><label for="sure-word">${t("typeWord", { word })}</label>
      <input id="sure-word" class="input" autocomplete="off" autocapitalize="off" spellcheck=${false} value=${typed.value}
        onInput=${(event) => { typed.value = event.target.value; }} /></div>`}
    <div class="row end">
      <${Button} does=${() => answer(false)}>${t("cancel")}<//>
      <button type="submit" class="button danger" disabled=${!isTyped}>${action}</button>
    </div>
  </form>`;
}
