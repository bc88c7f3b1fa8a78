// The page is asked for again in a moment. A refresh by the markup would not: an address with a fragment, which a shop's link
// has, is a place in the page for it.

setTimeout(() => location.reload(), 5_000);
