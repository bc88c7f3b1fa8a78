// What the gateway says in its own English sentences, said as the page speaks: in Chinese, and where its words are meant for
// programs, in plain English too. A sentence that is not known stays as it is, marked as English.

const NUMBER = String.raw`([\d,.]+)`;

// [pattern, Chinese, plain English where the gateway's is not]
const SENTENCES = [
  // What is wrong with a value.
  [/^Expected `str` matching regex .*https\?/s, "请填写以 https:// 开头的地址。", "Write an address that starts with https://."],
  [/^Expected `str` matching regex/s, "包含不允许的字符。", "It has characters that are not allowed."],
  [/^Expected `(?:str|array)` of length <= (\d+)/, "最多 $1 个字符。", "At most $1 characters."],
  [/^Expected `(?:str|array)` of length >= 1/, "必填。", "This is needed."],
  [/^Expected `int` <= (\d+)/, "最大为 $1。", "At most $1."],
  [/^Expected `int` >= (\d+)/, "最小为 $1。", "At least $1."],
  [/^Expected `(?:int|float)`/, "请填写整数。", "Write a whole number."],
  [/^Invalid RFC3339|^Expected `datetime`/, "时间格式不对。", "This is no time."],
  [/^This field is required/, "必填。"],
  [/^This field cannot be changed/, "此项不能修改。"],
  [/^A sale closes after it opens/, "结束时间须晚于开售时间。"],
  [/^A sku stands once in a sale/, "同一场次中 SKU 不能重复。"],
  [/^There is no such sku/, "场次中没有这个 SKU。"],
  [/^The floor is at most the price/, "底价不能高于价格。"],
  [/^The price is at least/, "低于底价。", "This is under the floor."],
  [/^The steps of a price follow/, "价格阶段须按时间先后排列。"],
  [/^A price changes while its sale is open/, "价格阶段须在售卖时间之内。"],
  [/^The term of payment is (\d+) to (\d+) seconds/, "付款时限为 $1 到 $2 秒。"],
  [/^The stock of an item is at most (\d+)/, "库存最多 $1。"],
  [/^Times lie between/, "时间超出范围。"],
  [/^This is text of one line/, "请填写一行文字。"],
  [/^It is 1 to (\d+)/, "范围 1 到 $1。"],
  [/^The room has ended/, "直播间已结束，不可恢复。"],
  [/^The sale is over/, "场次已结束，不能再操作。"],
  // The pre-flight.
  [/^The sale is closed/, "场次已关闭，不可恢复。"], [/^Make a new sale\./, "新建一个场次。"],
  [/^The sale is paused/, "场次已暂停。"], [/^Resume it when/, "需要售卖时恢复即可。"],
  [/^The sale is open and lasts (.+)\.$/, "场次售卖中，时长 $1。"], [/^The sale opens in (.+) and lasts (.+)\.$/, "场次 $1后开售，时长 $2。"],
  [/^The sale lasts (.+)\.$/, "场次时长 $1。"], [/^See that opens_at/, "请确认开售与结束时间及时区无误。"],
  [/^The sale opens in (.+)\.$/, "场次 $1后开售。"], [/^See that the date/, "请确认日期无误。"],
  [/^The orders Valkey does not have the sale/, "订单 Valkey 中没有该场次。"], [/^See that a keeper runs/, "请检查 keeper 是否在运行，并查看其日志。"],
  [/^The stock in Valkey is not the ledger's: (.+)\.$/, "Valkey 与账本的库存不一致：$1。"],
  [/^Look again in a moment/, "稍后再检查（可能有改动在途）；仍不一致则执行 `peakgate rebuild`。"],
  [new RegExp(`^Valkey has each item with the ledger's stock: ${NUMBER} units, ${NUMBER} left`), "Valkey 与账本库存一致：共 $1 件，可售 $2 件。"],
  [/^Nothing is left of (.+)\.$/, "$1 已无可售库存。"], [/^Add stock where/, "如需要请补充库存。"],
  [/^Given away: (.+)\.$/, "价格为零：$1。"], [/^Set a price above/, "请设置大于 0 的价格。"],
  [/^Under their floor: (.+)\.$/, "低于底价：$1。"], [/^Raise the price or/, "请提高价格或价格阶段。"],
  [/^Not under their list price: (.+)\.$/, "价格不低于划线价：$1。"], [/^A price struck through/, "划线价不高于售价会像是填错了，请修改或去掉划线价。"],
  [/^Above 0, and no floor is undercut(?:, (\d+) with a price plan)?/, "价格均大于 0，且不低于底价。"],
  [/^No coupon can be redeemed/, "该场次没有可用的优惠券。"],
  [/^coupon \S+ \((.+)\): all ([\d,]+) copies/, "优惠券“$1”：$2 张已领完。"], [/^coupon \S+ \((.+)\): its claim is over/, "优惠券“$1”：领取已结束。"],
  [/^coupon \S+ \((.+)\): ([\d,]+) copies left/, "优惠券“$1”：剩余 $2 张。"],
  [/^coupon \S+ \((.+)\): its currency is (\w+), the sale's (\w+)/, "优惠券“$1”的币种是 $2，场次是 $3。"],
  [/^coupon \S+ \((.+)\): it is of no use/, "优惠券“$1”在售卖期间无法使用。"], [/^coupon \S+ \((.+)\): it ends (.+) before/, "优惠券“$1”比场次早 $2结束。"],
  [/^coupon \S+ \((.+)\): Valkey does not/, "Valkey 中没有优惠券“$1”。"],
  [/^Make another one/, "请新建一个。"], [/^Drop it again/, "请重新发放，或新建一个。"], [/^See that this is meant/, "请确认是否有意如此。"],
  [/^Make one (?:in the sale's currency|that is valid)/, "请新建一个符合要求的优惠券。"],
  [/^The sale is of no room/, "场次不属于任何直播间。"], [/^The sale's room has ended/, "场次所属直播间已结束。"], [/^Make a new room/, "请新建直播间和场次。"],
  [/^The room (.+) is live\./, "直播间 $1 正在直播。"], [/^The room (.+) is not live yet/, "直播间 $1 尚未开播。"], [/^Start it before/, "请在开售前开播。"],
  [/^The room starts after/, "直播间的开播时间晚于开售时间。"], [/^Move one of them/, "请调整其中一个时间。"], [/^The room (.+) is scheduled/, "直播间 $1 待开播。"],
  [/^The shop's webhook answered/, "店铺回调已响应签名测试。"], [/^The shop has no webhook/, "店铺未设置回调，将自行查询订单。"],
  [/^The shop's webhook did not take a signed ping: (.+)\.$/, "店铺回调未接受签名测试：$1。"],
  [/^See that it runs, checks/, "请检查回调服务是否运行、密钥是否正确，并返回 2xx。"],
  [/^The shop may have any number/, "店铺观众数不限。"], [/^The shop may have ([\d,]+) viewers; ([\d,]+) are/, "店铺观众上限 $1，预计 $2。"],
  [/^The shop may have ([\d,]+) viewers/, "店铺观众上限 $1。"], [/^Have the limit raised/, "请提高上限：`peakgate shop limits SHOP --viewers N`。"],
  [/^Valkey, PostgreSQL and this machine agree within (\S+) s/, "Valkey、PostgreSQL 与本机时钟相差不超过 $1 秒。"],
  [/^Valkey's clock is (\S+) s from/, "Valkey 与 PostgreSQL 的时钟相差 $1 秒。"], [/^Set the servers' clocks/, "请校准服务器时钟（NTP），一致 10 秒后恢复开售。"],
  [/^The servers agree; the clock .* is (\S+) s off/, "服务器时钟一致，但应答的机器相差 $1 秒。"], [/^Set it \(NTP\)/, "请校准（NTP），令牌以它为准。"],
  [/^The ledger is ([\d,]+) orders behind/, "账本落后 Valkey $1 单。"], [/^See what slows/, "请检查 PostgreSQL 或写入进程为何变慢。"],
  [/^No writer is at work/, "没有写入进程在工作。"], [/^Start a writer/, "请启动写入进程。"], [/^The shop's shard does not sell/, "店铺所在分片需要重建，暂不售卖。"],
  [/^See that keeper and writer run/, "请检查 keeper 与写入进程是否在运行，并查看日志。"],
  [/^(No maxmemory is set: )?(.+) free of (.+); ([\d,]+) orders take about (.+)\.$/, "可用 $2 / $3；$4 单约需 $5。"],
  [/^Raise its maxmemory/, "请提高 maxmemory，或换更大的机器。"],
  [/^It keeps no file/, "未开启持久化文件，数据可能随之丢失。"],
  [/^Turn appendonly/, "请开启 appendonly。"],
  [/^Its last write or rewrite/, "最近一次写入或重写文件失败。"],
  [/^Look at its log/, "请查看日志和磁盘。"],
  [/^It rewrites its file/, "正在重写文件。"],
  [/^Wait until that/, "请等待完成。"],
  [/^It has grown from (.+) to (.+) since/, "自上次重写后从 $1 增长到 $2。"],
  [/^Ask for a rewrite/, "请在空闲时执行 BGREWRITEAOF。"],
  [/^(.+), (.+) after its last rewrite/, "$1，上次重写后为 $2。"],
  [/^All that orders need are loaded/, "所需脚本均已加载。"],
  [/^Loaded just now: (.+)\.$/, "刚刚加载：$1。"],
  [/^The last one began(?: (\d+) minutes ago)?; (.+) of log since, of (.+) allowed/, "上一次检查点之后已有 $2 日志，上限 $3。"],
  [/^Run CHECKPOINT/, "请在空闲时执行 CHECKPOINT。"],
  [/^The role may not ask/, "当前角色无权查询检查点。"],
  [/^([\d,]+) orders write about (.+) of log/, "$1 单约写 $2 日志，高峰期会触发检查点。"],
  [/^Raise max_wal_size above (.+) for/, "当天请将 max_wal_size 提高到 $1 以上。"],
  [/^([\d,]+) viewers on (\d+) live processes are ([\d,]+) each; one takes ([\d,]+)/, "$1 名观众由 $2 个直播进程承担，每个 $3，上限 $4。"],
  [/^No live process/, "没有直播进程。"],
  [/^Start them/, "请启动。"],
  [/^Start more of them/, "请增加进程（PEAKGATE_WORKERS）或提高 PEAKGATE_MAX_SOCKETS。"],
  [/^A process may open ([\d,]+) .*needs ([\d,]+)/, "每个进程可打开 $1 个（应答的机器），直播进程需要 $2 个。"],
  [/^Raise the limit \(ulimit -n, LimitNOFILE\) to ([\d,]+)/, "请将上限（ulimit -n、LimitNOFILE）提高到 $1 以上。"],
  [/^(.+) available .*; ([\d,]+) viewers take about (.+) where/, "可用 $1（应答的机器）；$2 名观众约需 $3。"], [/^Use a larger machine/, "请换更大的机器或增加机器。"],
  [/^It is not on the machine .* about (.+) are needed/, "不在应答的机器上，看不到磁盘；约需 $1。"],
  [/^See that (.+) are free/, "请确认有 $1 可用。"],
  [/^(.+) free; about (.+) are needed/, "可用 $1，约需 $2。"],
  [/^Make room on/, "请清理磁盘。"],
  [/^Every invariant/, "场次的所有不变量均成立。"],
  [/^Broken: (.+)\.$/, "被破坏：$1。"],
  [/^`peakgate audit --sale (\S+)` says/, "`peakgate audit --sale $1` 可查看详情，处理办法见运维手册。"],
  [/^The sale is too large to be audited/, "场次太大，无法在此完成对账。"], [/^`peakgate audit --sale (\S+)` takes/, "请执行 `peakgate audit --sale $1`。"],
  [/^It could not be looked at \((\w+)\)/, "无法检查（$1）。"], [/^See that the servers run/, "请检查服务器是否运行，然后重试。"],
  // The audit.
  [/^No audit has looked/, "尚未有对账检查过该场次。"], [/^The last audit could not be made/, "最近一次对账未能完成。"],
];

const UNITS = [[/(\d+) days?/g, "$1 天"], [/(\d+) hours?/g, "$1 小时"], [/(\d+) minutes?/g, "$1 分钟"], [/(\d+) seconds?/g, "$1 秒"]];
const inChinese = (part) => UNITS.reduce((text, [pattern, say]) => text.replaceAll(pattern, say), part);

/** `{text, lang}`; `lang` is left out where it is the page's own. */
export function told(sentence, language) {
  for (const [pattern, zh, en] of SENTENCES) {
    const found = pattern.exec(sentence);
    if (!found) continue;
    const say = language === "zh" ? zh : en;
    if (!say) break;
    return { text: say.replaceAll(/\$(\d)/g, (_, at) => (language === "zh" ? inChinese(found[at] ?? "") : found[at] ?? "")) };
  }
  return language === "zh" ? { text: sentence, lang: "en" } : { text: sentence };
}
