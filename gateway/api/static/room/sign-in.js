// Before the room: a name on a development gateway, and else the way back to the shop.

import { Button, html, useSignal, useEffect, useRef } from "../ui/ui.js";
import { isDevelopment, session, signInForDevelopment } from "../ui/session.js";
import { LanguageSwitch } from "../ui/words.js";
import { t } from "./door-words.js";

const MOST_CHARS = 32;

export function SignIn({ room }) {
  const isStaff = session.value !== null;
  return html`<div class="door">
    <div class="door-top"><${LanguageSwitch} /></div>
    <section class="card door-card">
      ${isDevelopment ? html`<${ByName} room=${room} />` : html`<h1>${t("shopLinkTitle")}</h1><p class="soft">${t("shopLinkText")}</p>`}
      ${isStaff && html`<p class="note">${t("otherRole")}</p>`}
    </section>
  </div>`;
}

function ByName({ room }) {
  const name = useSignal(""), why = useSignal(null), doing = useSignal(false), field = useRef(null);
  useEffect(() => { field.current.focus(); }, []);
  const comeIn = async (event) => {
    event?.preventDefault();
    if (doing.value) return;
    const chosen = name.value.trim(), long = [...chosen].length;
    if (!long || long > MOST_CHARS) {
      why.value = t("nameLong");
      field.current.focus();
      return;
    }
    doing.value = true;
    try { await signInForDevelopment({ role: "viewer", name: chosen, room }); } catch (error) {
      why.value = t("failed", { why: error.message });
    }
    doing.value = false;
  };
  return html`<h1>${t("comeInTitle")}</h1>
    <p class="soft">${t("comeInText")}</p>
    <form class="stack" onSubmit=${comeIn} novalidate>
      <div class="field">
        <label for="door-name">${t("name")}</label>
        <input id="door-name" class="input" ref=${field} value=${name} autocomplete="nickname" maxlength=${MOST_CHARS * 2} enterkeyhint="go"
          aria-invalid=${why.value ? "true" : null} aria-describedby=${why.value ? "door-why" : null}
          onInput=${(event) => { name.value = event.target.value; why.value = null; }} />
        ${why.value && html`<p class="error" id="door-why" role="alert">${why.value}</p>`}
      </div>
      <${Button} kind="primary large" busy=${doing.value} does=${comeIn}>${t("comeIn")}<//>
    </form>`;
}
