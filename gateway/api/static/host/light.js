// The invariant as a light: what was promised is what is there. Its terms stand behind it: stock = left + held + paid + on the way.

import { html, useEffect, useSignal, Dialog, Icon } from "../ui/ui.js";
import { clockTime, count, duration } from "../ui/format.js";
import { language, words } from "../ui/words.js";
import { told } from "./told.js";

const EVERY_MS = 10_000, STALE_MS = 45_000, AUDIT_OLD_MS = 180_000, MOST_SALES = 20;

export const t = words({
  en: {
    good: "Books agree", waiting: "Not judged yet", stale: "Light is stale", bad: "Books disagree", none: "No sale to check",
    title: "Does it all add up?",
    formula: "Each unit of stock is in one place: left to sell, held by an order, paid, or on its way between the two stores.",
    goodLong: "The last audit found every rule kept.",
    waitingLong: "The audit has not judged this sale yet. It does so within a minute or two.",
    oldAudit: "The last audit was {ago} ago. It should be every minute: see that the keeper runs.",
    staleLong: "The gateway could not be asked since {time}. What stands here is old.",
    badLong: "A rule is broken. Pause the sale, and have the operator run “peakgate audit --sale {sale}”. Do not add stock before that.",
    audited: "Audited {ago} ago, at {time}", why: "Why not: {why}",
    item: "Item", stock: "Stock", left: "Left", held: "Held", paid: "Paid", onTheWay: "On the way", unknown: "not known",
    behind: ({ n }) => (n === 1 ? "One entry is on its way between the stores." : `${n} entries are on their way between the stores.`),
    settled: "Nothing is on its way between the stores.",
  },
  zh: {
    good: "账目一致", waiting: "尚未对账", stale: "状态过期", bad: "账目不一致", none: "没有可核对的场次",
    title: "账目对得上吗？",
    formula: "每一件库存只在一处：可售、已锁定、已付款，或正在两个存储之间同步。",
    goodLong: "最近一次对账全部通过。", waitingLong: "该场次尚未对账，一两分钟内会完成。",
    oldAudit: "上次对账已过 {ago}，正常应每分钟一次：请检查 keeper 是否在运行。",
    staleLong: "自 {time} 起无法查询网关，此处数据已过期。",
    badLong: "有规则被破坏。请先暂停场次，并让运维执行“peakgate audit --sale {sale}”，在此之前不要加库存。",
    audited: "{ago}前对账（{time}）", why: "原因：{why}",
    item: "商品", stock: "库存", left: "可售", held: "已锁定", paid: "已付", onTheWay: "同步中", unknown: "未知",
    behind: ({ n }) => `有 ${n} 条记录正在两个存储之间同步。`,
    settled: "两个存储之间没有待同步的记录。",
  },
});

const LOOKS = { good: "check", waiting: "clock", stale: "warn", bad: "close", none: "clock" };
const WORST = ["none", "good", "waiting", "stale", "bad"];

/** How a sale stands: `found` is `{reading, heard_ms}`; before the first is read `heard_ms` is since when it is asked for. */
function stateOf(sale, found, now) {
  if (found?.reading?.holds === false) return "bad";
  if (found && now - found.heard_ms > STALE_MS) return "stale";
  if (typeof found?.reading?.holds !== "boolean") return "waiting";
  return now - Date.parse(found.reading.audited_at) > AUDIT_OLD_MS && sale.state !== "closed" ? "stale" : "good";
}

export function Light({ desk }) {
  const readings = useSignal(new Map()), open = useSignal(false);
  // Those that sell or will; when all is over, the last ones.
  const running = desk.sales.value.filter((sale) => sale.state !== "closed");
  const sales = (running.length ? running : desk.sales.value).slice(-MOST_SALES);
  const names = sales.map((sale) => sale.sale).join();
  useEffect(() => {
    let isOn = true;
    const put = (sale, found) => { readings.value = new Map([...readings.value, [sale, found]]); };
    const ask = () => Promise.all(sales.map(async ({ sale }) => {
      try {
        const reading = await desk.http.get(`/v1/sales/${encodeURIComponent(sale)}/invariant`);
        if (isOn) put(sale, { reading, heard_ms: desk.now() });
      } catch { /* the light grows stale */ }
    }));
    const had = readings.peek(), since = { reading: null, heard_ms: desk.now() };
    readings.value = new Map(sales.map(({ sale }) => [sale, had.get(sale) ?? since]));
    void ask();
    const timer = setInterval(ask, EVERY_MS);
    return () => { isOn = false; clearInterval(timer); };
  }, [names]);
  // Once in five seconds is often enough for what grows stale in minutes.
  const now = Math.floor(desk.second.value / 5_000) * 5_000;
  const states = sales.map((sale) => stateOf(sale, readings.value.get(sale.sale), now));
  const worst = states.reduce((one, other) => (WORST.indexOf(other) > WORST.indexOf(one) ? other : one), "none");
  return html`<button type="button" class=${`light light-${worst}`} aria-haspopup="dialog" onClick=${() => { open.value = true; }}>
      <span class="light-mark"><${Icon} name=${LOOKS[worst]} size=${14} /></span><span role="status">${t(worst)}</span></button>
    <${Dialog} open=${open.value} title=${t("title")} kind="sheet wide" onClose=${() => { open.value = false; }}>
      <div class="stack"><p class="soft">${t("formula")}</p>
        ${!sales.length && html`<p>${t("none")}</p>`}
        ${sales.map((sale, at) => html`<${Terms} key=${sale.sale} sale=${sale} state=${states[at]} found=${readings.value.get(sale.sale)}
            now=${now} />`)}
      </div><//>`;
}

function Terms({ sale, state, found, now }) {
  const titles = new Map(sale.items.map((item) => [item.sku, item.title]));
  const reading = found?.reading, audited = reading?.audited_at, ago = audited && duration(Math.max(0, now - Date.parse(audited)));
  const auditedWhen = audited && t("audited", { ago, time: clockTime(audited, { seconds: true }) });
  const behind = reading?.behind ? t("behind", { n: reading.behind }) : reading?.behind === 0 && t("settled");
  const whyNot = reading?.why_not && t("why", { why: told(reading.why_not, language.value).text });
  const isUnheard = now - (found?.heard_ms ?? now) > STALE_MS;
  const staleWhy = isUnheard ? t("staleLong", { time: clockTime(found.heard_ms) }) : t("oldAudit", { ago });
  return html`<section class="stack tight">
    <div class="spread"><h3>${sale.title}</h3><span class=${`light still light-${state}`}><span class="light-mark"><${Icon}
        name=${LOOKS[state]} size=${14} /></span>${t(state)}</span></div>
    ${state === "good" && html`<p>${t("goodLong")}</p>`}
    ${state === "waiting" && html`<p>${t("waitingLong")} <span class="soft">${whyNot}</span></p>`}
    ${state === "stale" && html`<p class="note warn">${staleWhy}</p>`}
    ${state === "bad" && html`<p class="note bad">${t("badLong", { sale: sale.sale })}</p>
      <ul class="lines">${reading.broken.map((each) => html`<li class="line bad"><span class="line-mark"><${Icon} name="close"
          size=${16} /></span>
        <span lang="en"><b>${each.rule}</b> ${each.detail}</span></li>`)}</ul>`}
    ${reading && html`<div class="table-scroll"><table class="table"><thead><tr><th>${t("item")}</th>
      ${["stock", "left", "held", "paid", "onTheWay"].map((name) => html`<th class="right">${t(name)}</th>`)}</tr></thead>
      <tbody>${reading.items.map((item) => html`<tr key=${item.sku}><td>${titles.get(item.sku) ?? item.sku}</td>
        ${[item.stock, item.left, item.held, item.paid, item.on_the_way].map((n) =>
          html`<td class="right">${n === null ? t("unknown") : count(n)}</td>`)}</tr>`)}</tbody>
      </table></div>
      <p class="soft small">${[auditedWhen, behind].filter(Boolean).join(" · ")}</p>`}
  </section>`;
}
