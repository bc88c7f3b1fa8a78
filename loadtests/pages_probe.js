// Runs in the page before anything of its own: what only the page can tell of its times. All are milliseconds since navigation.

(({ buy, log }) => {
  const probe = { drawn: null, tapped: null, pressed: null, answered: null };

  const seen = () => {
    const button = document.querySelector(buy);
    const box = button?.getBoundingClientRect();
    return box && box.width > 0 && box.top >= 0 && box.bottom <= innerHeight && !button.disabled ? button : null;
  };
  // The frame after the one that draws it: by then it is on the screen.
  const asked = new Set();
  const onScreen = (name, place = null) => {
    if (asked.has(name)) return;
    asked.add(name);
    requestAnimationFrame(() => requestAnimationFrame((now) => {
      probe[name] = now;
      window.pagesReached(name, place);
    }));
  };

  // Frame by frame until the room and the button of an item are drawn.
  const look = () => {
    const button = document.querySelector(log) && seen();
    if (!button) return requestAnimationFrame(look);
    const { left, top, width, height } = button.getBoundingClientRect();
    onScreen("drawn", { x: left + width / 2, y: top + height / 2 });
    const watch = new MutationObserver(() => {
      if (probe.tapped === null) return;
      const busy = document.querySelector(`${buy}[aria-busy="true"]`);
      if (busy) onScreen("pressed");
      else if (asked.has("pressed")) {
        onScreen("answered");
        watch.disconnect();
      }
    });
    watch.observe(document.body, { subtree: true, attributes: true, attributeFilter: ["aria-busy"] });
  };
  requestAnimationFrame(look);
  addEventListener("pointerdown", (event) => { probe.tapped ??= event.timeStamp; }, { capture: true, passive: true });

  window.pagesLoad = () => ({
    ...probe,
    paint: performance.getEntriesByName("first-contentful-paint")[0]?.startTime ?? 0,
    resources: [...performance.getEntriesByType("navigation"), ...performance.getEntriesByType("resource")].map((each) => (
      { url: each.name, from: Math.round(each.startTime), until: Math.round(each.responseEnd), size: each.encodedBodySize })),
  });

  // The distances between frames for so long, and the tasks in which the page could not answer.
  window.pagesFrames = async (forMs) => {
    const gaps = [], longTasks = [];
    const observer = new PerformanceObserver((list) => { for (const task of list.getEntries()) longTasks.push(task.duration); });
    observer.observe({ type: "longtask" });
    await new Promise((resolve) => {
      let first = null, last = null;
      const frame = (now) => {
        if (last !== null) gaps.push(now - last);
        first ??= now;
        last = now;
        if (now - first < forMs) requestAnimationFrame(frame);
        else resolve();
      };
      requestAnimationFrame(frame);
    });
    observer.disconnect();
    return { gaps, longTasks, lines: document.querySelector(log)?.childElementCount ?? 0 };
  };
})
