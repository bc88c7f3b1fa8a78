// A picture in so few colours that a byte names one: {width, height, palette, indexes}, the last two in base64.

async (picture, most) => {
  const bitmap = await createImageBitmap(await (await fetch(`data:image/png;base64,${picture}`)).blob());
  const canvas = new OffscreenCanvas(bitmap.width, bitmap.height), pen = canvas.getContext("2d");
  pen.drawImage(bitmap, 0, 0);
  const pixels = new Uint32Array(pen.getImageData(0, 0, bitmap.width, bitmap.height).data.buffer);

  const counts = new Map();
  for (const pixel of pixels) counts.set(pixel, (counts.get(pixel) ?? 0) + 1);
  const colours = [...counts].map(([pixel, n]) => ({ pixel, n, parts: [pixel & 255, (pixel >> 8) & 255, (pixel >> 16) & 255] }));

  // Median cut: the box with most to lose is halved along its longest side.
  const boxOf = (within) => {
    const spans = [0, 1, 2].map((at) => Math.max(...within.map((each) => each.parts[at])) - Math.min(...within.map((each) => each.parts[at])));
    const side = spans.indexOf(Math.max(...spans));
    return { within, side, loss: within.length < 2 ? 0 : spans[side] * Math.sqrt(within.reduce((sum, each) => sum + each.n, 0)) };
  };
  const boxes = [];
  for (let at = 0; at < colours.length; at += 50_000) boxes.push(boxOf(colours.slice(at, at + 50_000)));
  while (boxes.length < most) {
    const box = boxes.reduce((worst, each) => (each.loss > worst.loss ? each : worst));
    if (!box.loss) break;
    box.within.sort((a, b) => a.parts[box.side] - b.parts[box.side]);
    const half = box.within.reduce((sum, each) => sum + each.n, 0) / 2;
    let at = 0, sum = 0;
    while (at < box.within.length - 1 && (sum += box.within[at].n) < half) at++;
    at = Math.max(1, at);
    boxes.splice(boxes.indexOf(box), 1, boxOf(box.within.slice(0, at)), boxOf(box.within.slice(at)));
  }

  const palette = new Uint8Array(boxes.length * 3), indexOf = new Map();
  boxes.forEach(({ within }, index) => {
    const n = within.reduce((sum, each) => sum + each.n, 0);
    for (let side = 0; side < 3; side++) palette[index * 3 + side] = Math.round(within.reduce((sum, each) => sum + each.parts[side] * each.n, 0) / n);
    for (const { pixel } of within) indexOf.set(pixel, index);
  });
  const base64 = async (bytes) => {
    const reader = new FileReader();
    reader.readAsDataURL(new Blob([bytes]));
    await new Promise((resolve) => { reader.onload = resolve; });
    return reader.result.slice(reader.result.indexOf(",") + 1);
  };
  return { width: bitmap.width, height: bitmap.height, palette: await base64(palette), indexes: await base64(Uint8Array.from(pixels, (pixel) => indexOf.get(pixel))) };
}
