// Money as people type it, in main units, and as the gateway has it: integers in the currency's smallest unit.
// Digits are moved, not multiplied: no amount goes through a float.

export const CURRENCIES = ["CNY", "HKD", "TWD", "USD", "EUR", "GBP", "JPY", "SGD", "MYR", "THB", "VND", "KRW", "AUD", "CAD"];

/** How many digits a currency has behind its point. */
export function digitsOf(currency) {
  try { return new Intl.NumberFormat("en", { style: "currency", currency }).resolvedOptions().maximumFractionDigits; } catch { return 2; }
}

/** 16800 of CNY is "168", 1650 is "16.50". */
export function typedAmount(minor, currency) {
  if (minor === null || minor === undefined) return "";
  const digits = digitsOf(currency);
  if (!digits) return String(minor);
  const text = String(minor).padStart(digits + 1, "0"), main = text.slice(0, -digits), rest = text.slice(-digits);
  return /^0+$/.test(rest) ? main : `${main}.${rest}`;
}

/** "16.5" of CNY is 1650; null where it is no amount of it ("1,200" could be two, so it is none). */
export function amountTyped(text, currency) {
  const digits = digitsOf(currency);
  const found = /^(\d{1,13})(?:[.,。](\d+))?$/.exec(text.trim().replaceAll(/[\s\u00a0]/g, ""));
  if (!found || (found[2]?.length ?? 0) > digits) return null;
  return Number(found[1] + (found[2] ?? "").padEnd(digits, "0"));
}
