// Before the console: a token from the shop's link, or the sign-in of a development gateway.

import { html, useSignal } from "../ui/ui.js";
import { isDevelopment, session, signInForDevelopment, signInWith, signOut } from "../ui/session.js";
import { LanguageSwitch } from "../ui/words.js";
import { Field } from "./field.js";
import { t } from "./words.js";

export function SignIn() {
  const role = session.value?.claims.role;
  return html`<div class="sign-in">
    <header class="spread"><h1>${t("console")}</h1><${LanguageSwitch} /></header>
    ${session.value && html`<p class="note warn" role="alert">${t("roleWrong", { role: role ?? "?" })}</p>`}
    ${isDevelopment ? html`<${ByName} />` : html`<p>${t("signInAsk")}</p>`}
    <${ByToken} />
    ${session.value && html`<button class="button quiet" type="button" onClick=${signOut}>${t("signOut")}</button>`}
  </div>`;
}

function ByName() {
  const error = useSignal(null), busy = useSignal(false);
  const send = async (event) => {
    event.preventDefault();
    const { shop, name } = Object.fromEntries(new FormData(event.currentTarget));
    busy.value = true;
    error.value = null;
    try { await signInForDevelopment({ role: "host", shop: shop.trim(), name: name.trim() }); } catch (failed) {
      error.value = failed.message;
      busy.value = false;
    }
  };
  return html`<form class="card stack" onSubmit=${send}>
    <h2>${t("devSignIn")}</h2>
    <p class="soft small">${t("devSignInWhy")}</p>
    <${Field} label=${t("shop")} id="sign-in-shop"><input name="shop" class="input" required maxlength="64" autocomplete="organization"
        value="demo" /><//>
    <${Field} label=${t("name")} id="sign-in-name"><input name="name" class="input" required maxlength="64" autocomplete="username" /><//>
    ${error.value && html`<p class="note bad" role="alert">${error.value}</p>`}
    <button type="submit" class="button primary large" disabled=${busy.value}>${t("signIn")}</button>
  </form>`;
}

/** For a link that lost its way, say through a chat. What is typed never stands in the address. */
function ByToken() {
  const error = useSignal(null);
  const take = (event) => {
    event.preventDefault();
    const typed = new FormData(event.currentTarget).get("link").trim();
    const token = typed.includes("token=") ? new URLSearchParams(typed.slice(typed.indexOf("#") + 1)).get("token") : typed;
    if (!/^[\w-]+\.[\w-]+\.[\w-]+$/.test(token ?? "")) { error.value = "signInBad"; return; }
    signInWith(token);
    const { exp, role } = session.value.claims;
    error.value = role === "host" ? null : "signInBad";
    if ((exp ?? Infinity) * 1000 < Date.now()) { signOut(); error.value = "signInOver"; }
  };
  return html`<form class="card stack" onSubmit=${take}>
    <${Field} label=${t("signInLink")} id="sign-in-link" hint=${t("signInLinkHint")} error=${error.value && t(error.value)}>
      <input name="link" type="password" class="input" required autocomplete="off" spellcheck=${false} /><//>
    <button type="submit" class="button">${t("signInTake")}</button>
  </form>`;
}
