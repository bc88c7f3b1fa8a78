// What stands below a list of pages.js: that it is read, that it could not be, that there is more.

import { html, Button } from "../ui/ui.js";
import { explain } from "./errors.js";
import { t } from "./talk-words.js";

export function ListFoot({ pages, empty }) {
  const { items, next, state, error } = pages;
  if (state.value === "failed") {
    return html`<p class="note bad spread"><span>${explain(error.value)}</span><${Button} does=${pages.refresh}>${t("again")}<//></p>`;
  }
  if (state.value !== "read") return html`<p class="soft small" aria-busy="true">${t("reading")}</p>`;
  if (!items.value.length) return html`<p class="soft">${empty}</p>`;
  return next.value && html`<${Button} does=${pages.more}>${t("more")}<//>`;
}
