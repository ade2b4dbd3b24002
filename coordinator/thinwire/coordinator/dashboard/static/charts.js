"use strict";
// Curves of one run or of several, and the bytes of rounds, from the figures that the page brings along.
(() => {
  const colours = ["--accent", "--up", "--ok", "--train", "--warn", "--bad"];
  const colour = name => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const units = ["B", "kB", "MB", "GB", "TB"];
  const bytes = n => {
    let unit = 0;
    while (n >= 999.5 && unit < 4) { n /= 1000; unit++; }
    return `${n.toPrecision(n >= 99.5 || unit === 0 ? Math.max(1, Math.ceil(Math.log10(n + 1))) : 3)} ${units[unit]}`;
  };
  const span = s => s < 120 ? `${s.toFixed(0)} s` : s < 7200 ? `${(s / 60).toFixed(1)} min` : `${(s / 3600).toFixed(1)} h`;
  const axisOf = { round: ["round", String], bytes: ["wire bytes", bytes], seconds: ["seconds", span] };
  const drawn = new Map();
  let against = "round", shown = null;

  function data() {
    const found = document.getElementById("figures");
    return found ? JSON.parse(found.textContent) : null;
  }

  function points(rounds, x) {
    const name = { round: "round", bytes: "total_bytes", seconds: "total_seconds" }[x];
    return rounds.map(one => ({ x: one[name], y: one[shown] ?? one.scores[shown] ?? null })).filter(one => one.y !== null);
  }

  function put(id, options, values) {
    const place = document.getElementById(id);
    if (!place) return;
    const width = Math.max(260, place.clientWidth), key = JSON.stringify([against, shown, values.length, width, colour("--ink")]);
    const old = drawn.get(id);
    if (old && old.key === key && old.plot.root.isConnected) { old.plot.setData(values); return; }
    if (old) old.plot.destroy();
    place.replaceChildren();
    drawn.set(id, { key, plot: new uPlot({ width, height: 250, ...options }, values, place) });
  }

  // Accuracy lies between 0 and 1, a loss begins at 0; what scores of the user's own may be, nobody knows.
  function range(low, high) {
    if (low == null) return [0, 1];
    if (shown === "accuracy") return [Math.max(0, low - .05), Math.min(1, high + .03)];
    if (shown === "loss") return [Math.min(0, low), high * 1.05 || 1];
    const more = (high - low || Math.abs(high) || 1) * .06;
    return [low - more, high + more];
  }

  function axis(values) {
    const line = { stroke: colour("--line"), width: 1 };
    return { stroke: colour("--dim"), grid: line, ticks: line, font: "12px system-ui, sans-serif", values };
  }

  function curves(series) {
    const [label, text] = axisOf[against];
    const found = series.map(one => points(one.rounds, against));
    const xs = [...new Set(found.flat().map(one => one.x))].sort((a, b) => a - b);
    const rows = found.map(mine => { const at = new Map(mine.map(one => [one.x, one.y])); return xs.map(x => at.get(x)); });
    put("curve", {
      scales: { x: { time: false }, y: { range: (_, low, high) => range(low, high) } },
      axes: [axis((_, all) => all.map(text)), { ...axis((_, all) => all.map(y => +y.toPrecision(3))), size: 46 }],
      series: [{ label, value: (_, x) => x == null ? "–" : text(x) }, ...series.map((one, index) => ({
        label: one.name, stroke: colour(colours[index % colours.length]), width: 2, spanGaps: true,
        dash: index >= colours.length ? [6, 4] : undefined, points: { show: xs.length < 40, size: 6 },
        value: (_, y) => y == null ? "–" : y.toFixed(4),
      }))],
    }, [xs, ...rows]);
  }

  // Stacked: each is drawn to the sum of those below it, the highest first.
  function bars(rounds) {
    const paid = rounds.filter(one => one.round > 0);
    const parts = ["downlink_payload_bytes", "downlink framing", "uplink_payload_bytes", "uplink framing"];
    const value = (one, part) => part === "downlink framing" ? one.downlink_bytes - one.downlink_payload_bytes
      : part === "uplink framing" ? one.uplink_bytes - one.uplink_payload_bytes : one[part];
    const own = parts.map(part => paid.map(one => value(one, part)));
    const sums = own.map((_, index) => paid.map((__, at) => own.slice(0, index + 1).reduce((sum, mine) => sum + mine[at], 0)));
    const names = ["down payload", "down framing", "up payload", "up framing"], hues = ["--down", "--wait", "--up", "--dim"];
    const order = [3, 2, 1, 0];
    put("bars", {
      scales: { x: { time: false, range: (_, low, high) => [low - .6, high + .6] }, y: { range: (_, __, high) => [0, high * 1.05 || 1] } },
      axes: [axis((_, all) => all.map(x => Number.isInteger(x) ? x : "")), { ...axis((_, all) => all.map(bytes)), size: 66 }],
      series: [{ label: "round" }, ...order.map(index => ({
        label: names[index], fill: colour(hues[index]), stroke: colour(hues[index]), width: 0, points: { show: false },
        paths: uPlot.paths.bars({ size: [0.7, 60] }), value: (plot, _, __, at) => at == null ? "–" : bytes(own[index][at]),
      }))],
    }, [paid.map(one => one.round), ...order.map(index => sums[index])]);
  }

  function draw() {
    const found = data();
    if (!found) return;
    shown ??= found.scores[0] ?? "accuracy";
    curves(found.series);
    if (document.getElementById("bars")) bars(found.series[0].rounds);
    for (const button of document.querySelectorAll("button[data-against], button[data-shown]")) {
      button.setAttribute("aria-pressed", String(button.dataset.against === against || button.dataset.shown === shown));
    }
  }

  document.addEventListener("click", event => {
    const button = event.target.closest("button[data-against], button[data-shown]");
    if (!button) return;
    against = button.dataset.against ?? against;
    shown = button.dataset.shown ?? shown;
    draw();
  });
  document.addEventListener("thinwire:fresh", draw);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
  let resized = 0;
  addEventListener("resize", () => { clearTimeout(resized); resized = setTimeout(draw, 150); });
  draw();
})();
