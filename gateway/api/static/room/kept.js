// Lists that outlive a reload, in the tab's own storage where there is one.

export function keptIn(storage, name) {
  try { return JSON.parse(storage?.getItem(name) ?? "[]"); } catch { return []; /* another's, or broken */ }
}

export function keepIn(storage, name, list) {
  try { storage?.setItem(name, JSON.stringify(list)); } catch { /* full or forbidden */ }
}
