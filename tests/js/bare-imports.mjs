// What an import map does for a page: the names that modules of the pages are imported by. Imported first, before such a module.

import { register } from "node:module";

const at = (path) => new URL(`../../gateway/api/static/${path}`, import.meta.url).href;
const names = {
  "peakgate": at("peakgate.js"), "preact": at("vendor/preact.js"), "preact/hooks": at("vendor/preact-hooks.js"), "htm": at("vendor/htm.js"),
  "@preact/signals": at("vendor/signals.js"), "@preact/signals-core": at("vendor/signals-core.js"),
};

const hooks = `
const names = ${JSON.stringify(names)}, pages = ${JSON.stringify(at(""))};
export async function resolve(name, context, next) {
  const found = name in names ? { url: names[name], shortCircuit: true } : await next(name, context);
  return found.url.startsWith(pages) ? { ...found, format: "module" } : found;
}`;
register(`data:text/javascript,${encodeURIComponent(hooks)}`);
