"use strict";
(() => {
  const NS = "http://www.w3.org/2000/svg", W = innerWidth < 500 ? 330 : 440, H = 260, PAD = { l: 62, r: 14, t: 12, b: 38 };
  const sections = JSON.parse(document.getElementById("numbers").textContent);
  const make = (parent, name, attributes, text) => {
    const node = document.createElementNS(NS, name);
    for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
    if (text !== undefined) node.textContent = text;
    parent.appendChild(node);
    return node;
  };
  const canvas = (place, label, height = H) => {
    const svg = make(place, "svg", { viewBox: `0 0 ${W} ${height}`, role: "img", "aria-label": label });
    make(svg, "title", {}, label);
    return svg;
  };
  const short = (v) => v === 0 ? "0" : Math.abs(v) >= 1e4 || Math.abs(v) < 1e-2 ? v.toExponential(1).replace(".0e", "e") : String(+v.toPrecision(3));
  const scale = (low, high, from, to, log) => {
    const f = log ? Math.log10 : (v) => v;
    const a = f(low), b = f(high) === a ? a + 1 : f(high);
    return (v) => from + (f(v) - a) / (b - a) * (to - from);
  };
  const ticks = (low, high, log) => {
    if (log) {
      const first = Math.ceil(Math.log10(low) - 1e-9), last = Math.floor(Math.log10(high) + 1e-9);
      const step = Math.max(1, Math.ceil((last - first + 1) / 6)), out = [];
      for (let k = first; k <= last; k += step) out.push(10 ** k);
      // Less than two decades: 2 and 5 of each as well.
      if (out.length < 2) for (let k = first - 1; k <= last; k += 1) for (const m of [2, 5]) if (m * 10 ** k >= low && m * 10 ** k <= high) out.push(m * 10 ** k);
      return out.length ? out : [low];
    }
    const raw = (high - low) / 4 || 1, unit = 10 ** Math.floor(Math.log10(raw));
    const step = [1, 2, 5, 10].map((m) => m * unit).find((s) => s >= raw) || raw, out = [];
    for (let v = Math.ceil(low / step) * step; v <= high + 1e-9 * step; v += step) out.push(Math.abs(v) < 1e-12 * step ? 0 : v);
    return out;
  };
  const frame = (svg, x, y, xs, ys, xname, yname, xtext) => {
    for (const v of ys) {
      make(svg, "line", { x1: PAD.l, x2: W - PAD.r, y1: y(v), y2: y(v), stroke: "var(--line)" });
      make(svg, "text", { x: PAD.l - 6, y: y(v) + 4, "text-anchor": "end" }, short(v));
    }
    for (const v of xs) make(svg, "text", { x: x(v), y: H - PAD.b + 16, "text-anchor": "middle" }, xtext ? xtext(v) : short(v));
    make(svg, "text", { x: (PAD.l + W - PAD.r) / 2, y: H - 4, "text-anchor": "middle" }, xname);
    make(svg, "text", { x: 12, y: (H - PAD.b) / 2, "text-anchor": "middle", transform: `rotate(-90 12 ${(H - PAD.b) / 2})` }, yname);
  };
  const lineOf = (svg, xs, ys, x, y, attributes) => {
    let words = "", pen = false;
    xs.forEach((v, k) => {
      if (ys[k] === null || v === null) { pen = false; return; }
      words += `${pen ? "L" : "M"}${x(v).toFixed(2)} ${y(ys[k]).toFixed(2)}`;
      pen = true;
    });
    make(svg, "path", { d: words, fill: "none", "stroke-width": 1.8, ...attributes });
  };
  const at = (ts, ys, t) => {
    let k = 1;
    while (k < ts.length - 1 && ts[k] < t) k += 1;
    const run = ts[k] - ts[k - 1];
    const share = run > 0 ? Math.min(1, Math.max(0, (t - ts[k - 1]) / run)) : 0;
    return ys[k - 1] * (1 - share) + ys[k] * share;
  };
  const quarters = (v) => ({ 0: "0", 0.25: "¼", 0.5: "½", 0.75: "¾", 1: "1" }[v] ?? short(v));
  const along = (place, section, key, name) => {
    const { t, events, point } = section.curve, values = section.curve[key];
    const known = values.filter((v) => v !== null);
    let low = Math.min(...known), high = Math.max(...known);
    if (key === "loss") low = Math.min(0, low);
    if (key === "accuracy") { low = Math.max(0, low - 0.005); high = Math.min(1, high + 0.005); }
    if (high === low) high = low + 1;
    const last = t[t.length - 1], svg = canvas(place, `${name} along the path, from ${short(known[0])} to at most ${short(high)}`);
    const x = scale(0, last, PAD.l, W - PAD.r), y = scale(low, key === "loss" ? high + 0.05 * (high - low) : high, H - PAD.b, PAD.t);
    frame(svg, x, y, [0, 0.25, 0.5, 0.75, 1].filter((v) => v <= last), ticks(low, high), "t", name, quarters);
    lineOf(svg, t, values, x, y, { stroke: "var(--blue)" });
    if (key === "loss") {
      const kinds = {};
      for (const event of events) {
        if (event.loss === null) continue;
        const dot = make(svg, "circle", { cx: x(event.t), cy: y(event.loss), r: 3.5, fill: "none", stroke: "var(--red)", "stroke-width": 1.5 });
        make(dot, "title", {}, `${event.kind}: ${event.detail}`);
        kinds[event.kind] = (kinds[event.kind] || 0) + 1;
      }
      const words = Object.entries(kinds).map(([kind, n]) => `${kind} ×${n}`).join(", ");
      if (words) make(svg, "text", { x: W - PAD.r, y: PAD.t + 8, "text-anchor": "end", "data-events": "" }, words);
      if (point) make(svg, "circle", { cx: x(0.5), cy: y(point.loss), r: 6, fill: "var(--orange)" });
    }
    const marker = make(svg, "g", { "data-marker": key });
    make(marker, "line", { y1: PAD.t, y2: H - PAD.b, x1: 0, x2: 0, stroke: "var(--soft)", "stroke-dasharray": "3 3" });
    const dot = make(marker, "circle", { r: 5, fill: "var(--green)", cx: 0 });
    return (now) => {
      marker.setAttribute("transform", `translate(${x(now).toFixed(2)} 0)`);
      dot.setAttribute("cy", y(at(t, values, now)).toFixed(2));
    };
  };
  const residuals = (place, { distance, residual, converged, tolerance }) => {
    const seen = residual.filter((v) => v !== null && v > 0);
    const svg = canvas(place, "tangential gradient norm against distance");
    const low = Math.min(tolerance, ...seen) / 2, high = Math.max(tolerance, ...seen) * 2;
    const x = scale(Math.max(...distance), Math.min(...distance), PAD.l, W - PAD.r, true), y = scale(low, high, H - PAD.b, PAD.t, true);
    frame(svg, x, y, ticks(Math.min(...distance), Math.max(...distance), true), ticks(low, high, true), "distance δ, falling", "gradient norm");
    make(svg, "line", { x1: PAD.l, x2: W - PAD.r, y1: y(tolerance), y2: y(tolerance), stroke: "var(--red)", "stroke-dasharray": "5 4" });
    distance.forEach((d, k) => {
      if (residual[k] > 0) make(svg, "circle", { cx: x(d), cy: y(residual[k]), r: 2.4, fill: converged[k] ? "var(--blue)" : "none", stroke: "var(--blue)" });
    });
  };
  const neurons = (place, found) => {
    const size = Math.min(340, W), svg = canvas(place, "the layer's neurons at the chosen t", size), all = found.points.flat();
    const far = 1.08 * Math.max(1e-12, ...all.map(([a, b]) => Math.max(Math.abs(a), Math.abs(b))));
    const x = scale(-far, far, (W - size) / 2, (W + size) / 2), y = scale(-far, far, size, 0);
    make(svg, "line", { x1: x(-far), x2: x(far), y1: y(0), y2: y(0), stroke: "var(--line)" });
    make(svg, "line", { x1: x(0), x2: x(0), y1: y(-far), y2: y(far), stroke: "var(--line)" });
    make(svg, "text", { x: x(far), y: y(0) + 15, "text-anchor": "end" }, found.kind === "plane" ? "w₁" : "component 1");
    make(svg, "text", { x: x(0) + 5, y: 12 }, found.kind === "plane" ? "w₂" : "component 2");
    const colour = (unit) => unit === found.pair[0] ? "var(--blue)" : unit === found.pair[1] ? "var(--orange)" : "var(--soft)";
    const parts = [...found.units.keys()].reverse().map((k) => {
      const unit = found.units[k], ours = found.pair.includes(unit), group = make(svg, "g", { "data-neuron": unit });
      const edge = found.offsets ? make(group, "line", { stroke: colour(unit), "stroke-dasharray": "4 4", opacity: ours ? 0.8 : 0.35 }) : null;
      const arrow = make(group, "line", { x1: x(0), y1: y(0), stroke: colour(unit), "stroke-width": ours ? 2.5 : 1.2, opacity: ours ? 1 : 0.5 });
      const ring = unit === found.pair[1];  // seen around the other when the two meet
      const dot = make(group, "circle", { r: ring ? 9 : ours ? 5 : 3, fill: ring ? "none" : colour(unit), stroke: colour(unit), "stroke-width": 2.5 });
      const name = make(group, "text", { dx: ring ? -22 : 10, dy: ring ? 14 : -6 }, ours || found.units.length < 12 ? String(unit) : "");
      return { k, edge, arrow, dot, name };
    });
    return (step) => {
      for (const { k, edge, arrow, dot, name } of parts) {
        const [a, b] = found.points[step][k], px = x(a).toFixed(2), py = y(b).toFixed(2);
        arrow.setAttribute("x2", px); arrow.setAttribute("y2", py);
        dot.setAttribute("cx", px); dot.setAttribute("cy", py);
        name.setAttribute("x", px); name.setAttribute("y", py);
        if (!edge) continue;
        const length = Math.hypot(a, b) || 1e-12, c = -found.offsets[step][k] / length, u = [a / length, b / length];
        const half = Math.sqrt(Math.max(0, far * far - c * c));
        edge.setAttribute("x1", x(c * u[0] - half * u[1])); edge.setAttribute("y1", y(c * u[1] + half * u[0]));
        edge.setAttribute("x2", x(c * u[0] + half * u[1])); edge.setAttribute("y2", y(c * u[1] - half * u[0]));
      }
    };
  };
  const spectrum = (place, found) => {
    const rows = found.parts, height = 56 + 84 * rows.length, svg = canvas(place, `index ${found.index}, nullity ${found.nullity}`, height);
    const values = rows.flatMap((row) => row.values).filter((v) => v !== null && v !== 0), top = Math.max(1e-12, ...values.map(Math.abs));
    const small = Math.max(top * 1e-10, Math.min(top, ...values.map(Math.abs)) / 3);
    const bend = (v) => Math.sign(v) * Math.log10(1 + Math.abs(v) / small), x = scale(-bend(top) * 1.06, bend(top) * 1.06, 20, W - 20);
    rows.forEach((row, k) => {
      const y = 62 + 84 * k, shade = row.name.startsWith("symmetric") ? "var(--blue)" : row.name.startsWith("anti") ? "var(--orange)" : "var(--purple)";
      make(svg, "text", { x: 20, y: y - 34, style: `fill: ${shade}; font-weight: 600` }, `${row.name}${row.times > 1 ? ` ×${row.times}` : ""}`);
      make(svg, "text", { x: 20, y: y - 18 }, `${row.method}${row.zero ? `; ${row.zero} zero for a stated reason` : ""}`);
      make(svg, "line", { x1: 20, x2: W - 20, y1: y, y2: y, stroke: "var(--line)" });
      make(svg, "line", { x1: x(0), x2: x(0), y1: y - 13, y2: y + 26, stroke: "var(--soft)", "stroke-dasharray": "3 3" });
      row.values.forEach((v, j) => {
        if (v === null) return;
        const a = x(bend(v - (row.bounds[j] || 0))), b = x(bend(v + (row.bounds[j] || 0)));
        make(svg, "line", { x1: a, x2: b, y1: y, y2: y, stroke: shade, "stroke-width": 4, opacity: 0.4 });
        const tick = make(svg, "line", { x1: x(bend(v)), x2: x(bend(v)), y1: y - 9, y2: y + 9, stroke: shade, "stroke-width": 1.6 });
        make(tick, "title", {}, `${v} ± ${row.bounds[j]}`);
      });
      for (let j = 0; j < Math.min(row.zero, 12); j += 1) make(svg, "circle", { cx: x(0) + (j - (Math.min(row.zero, 12) - 1) / 2) * 9, cy: y + 16, r: 3.5, fill: "none", stroke: "var(--green)", "stroke-width": 1.6 });
    });
    for (const v of [-top, -Math.sqrt(top * small), 0, Math.sqrt(top * small), top]) make(svg, "text", { x: x(bend(v)), y: height - 8, "text-anchor": "middle" }, short(v));
  };
  const surface = (place, { x, y, losses, trace, point, nodes, outside }) => {
    const height = 330, svg = canvas(place, "merge surface; arrow keys turn it", height);
    svg.setAttribute("tabindex", "0");
    const all = losses.flat().concat(trace.flat().map((row) => row[2]), [point]).filter((v) => v !== null);
    const low = Math.min(...all), high = Math.max(...all), wide = Math.max(...x), n = x.length;
    // Heights by their square root: the valley's floor would be flat otherwise.
    const up = (v) => Math.sqrt(Math.max(0, (v - low) / (high - low || 1)));
    const layer = make(svg, "g", {});
    let turn = 0.6, tilt = 0.55;
    const project = (a, b, c) => {
      const u = a / wide, v = (b - 0.5) / 0.75, w = c - 0.4;
      const p = u * Math.cos(turn) - v * Math.sin(turn), q = u * Math.sin(turn) + v * Math.cos(turn);
      return [W / 2 + 14 + 0.29 * W * p, height / 2 + 4 - 150 * (w * Math.cos(tilt) - q * Math.sin(tilt) * 0.62), q * Math.cos(tilt) + w * Math.sin(tilt)];
    };
    const words = (point) => `${point[0].toFixed(1)},${point[1].toFixed(1)}`;
    const draw = () => {
      layer.replaceChildren();
      const foot = -0.06, ends = [[-wide, y[0]], [wide, y[0]], [wide, y[n - 1]], [-wide, y[n - 1]]];
      make(layer, "polygon", { points: ends.map(([a, b]) => words(project(a, b, foot))).join(" "), fill: "none", stroke: "var(--line)" });
      // The height axis stands at the corner that is leftmost on the screen.
      const corner = ends.reduce((best, end) => project(...end, 0)[0] < project(...best, 0)[0] ? end : best);
      const [bottom, crown] = [project(...corner, 0), project(...corner, 1)];
      make(layer, "line", { x1: bottom[0], y1: bottom[1], x2: crown[0], y2: crown[1], stroke: "var(--soft)" });
      const cells = [];
      for (let i = 0; i + 1 < n; i += 1) for (let j = 0; j + 1 < n; j += 1) {
        const corners = [[i, j], [i + 1, j], [i + 1, j + 1], [i, j + 1]];
        const points = corners.map(([a, b]) => project(x[a], y[b], up(losses[a][b])));
        const mean = corners.reduce((sum, [a, b]) => sum + up(losses[a][b]), 0) / 4;
        cells.push({ depth: points.reduce((sum, point) => sum + point[2], 0), points, mean });
      }
      cells.sort((a, b) => b.depth - a.depth);
      for (const { points, mean } of cells) make(layer, "polygon", {
        points: points.map(words).join(" "), "stroke-width": 0.4, stroke: "var(--panel)",
        fill: `color-mix(in srgb, var(--blue) ${Math.round(90 - 75 * mean)}%, var(--paper))`,
      });
      for (const mirrored of [false, true]) for (const piece of trace) make(layer, "polyline", {
        points: piece.map(([a, b, c]) => words(project(mirrored ? -a : a, mirrored ? 1 - b : b, up(c)))).join(" "),
        fill: "none", stroke: "var(--orange)", "stroke-width": 2.5, "data-trace": mirrored ? "mirrored" : "own",
      });
      const [px, py] = project(0, 0.5, up(point));
      make(layer, "circle", { cx: px, cy: py, r: 6, fill: "var(--orange)" });
      // Each axis is named on its edge nearer to the reader, with the numbers at that edge's ends.
      const near = (one, other) => project(...one, foot)[1] > project(...other, foot)[1] ? one : other;
      const edgeA = near([0, y[0]], [0, y[n - 1]])[1], edgeB = near([-wide, 0.5], [wide, 0.5])[0];
      // Names first, then numbers: what would lie on another label is moved down, or left out.
      const taken = [];
      const write = (tx, ty, anchor, name, attributes = {}) => {
        const width = 7 * name.length + 4, left = Math.min(W - width, Math.max(0, anchor === "end" ? tx - width : tx));
        for (const down of [0, 15]) {
          const base = Math.min(height - 4, ty + down), box = [left, base - 12, left + width, base + 3];
          if (taken.some((o) => box[0] < o[2] && o[0] < box[2] && box[1] < o[3] && o[1] < box[3])) continue;
          taken.push(box);
          make(layer, "text", { x: left + 2, y: base, "data-label": "surface", ...attributes }, name);
          return;
        }
      };
      const label = (a, b, name) => {
        const [tx, ty] = project(a, b, foot);
        write(tx, ty + 16, tx > W / 2 ? "start" : "end", name);
      };
      if (outside) write(4, 14, "start", `${outside} of the path's ${nodes} nodes lie outside the frame`, { "data-outside": outside });
      label(0, edgeA, "difference");
      label(edgeB, 0.5, "share");
      for (const [v, place] of [[low, bottom], [high, crown], [(low + (high - low) / 4), project(...corner, 0.5)]]) {
        write(place[0] - 6, place[1] + 4, "end", short(+v.toPrecision(2)));
      }
      for (const a of [-wide * 0.9, wide * 0.9]) label(a, edgeA, short(+a.toPrecision(2)));
      for (const b of [0, 1]) label(edgeB, b, String(b));
    };
    const rotate = (a, b) => { turn += a; tilt = Math.min(1.4, Math.max(0.1, tilt + b)); draw(); };
    svg.addEventListener("keydown", (event) => {
      const step = { ArrowLeft: [-0.1, 0], ArrowRight: [0.1, 0], ArrowUp: [0, 0.08], ArrowDown: [0, -0.08] }[event.key];
      if (step) { event.preventDefault(); rotate(...step); }
    });
    let held = null;
    svg.addEventListener("pointerdown", (event) => { held = [event.clientX, event.clientY]; svg.setPointerCapture(event.pointerId); });
    svg.addEventListener("pointermove", (event) => {
      if (!held) return;
      rotate((event.clientX - held[0]) / 150, (event.clientY - held[1]) / 200);
      held = [event.clientX, event.clientY];
    });
    svg.addEventListener("pointerup", () => { held = null; });
    svg.style.touchAction = "pan-y";
    draw();
  };
  const walkFigure = (place, { deviations, norms, tolerance }) => {
    const count = norms.length, seen = [...deviations, ...norms, tolerance].filter((v) => v > 0);
    const low = Math.min(...seen) / 3, high = Math.max(...seen) * 3, svg = canvas(place, "loss deviation and gradient norm by segment");
    const x = scale(0, Math.max(count, 1), PAD.l, W - PAD.r), y = scale(low, high, H - PAD.b, PAD.t, true);
    frame(svg, x, y, ticks(0, count), ticks(low, high, true), "segment", "deviation, norm");
    make(svg, "line", { x1: PAD.l, x2: W - PAD.r, y1: y(tolerance), y2: y(tolerance), stroke: "var(--red)", "stroke-dasharray": "5 4" });
    lineOf(svg, norms.map((_, k) => k + 0.5), norms.map((v) => Math.max(v, low)), x, y, { stroke: "var(--orange)" });
    deviations.forEach((v, k) => make(svg, "circle", { cx: x(k + 0.5), cy: y(Math.max(v, low)), r: 2.4, fill: "var(--blue)" }));
    const marker = make(svg, "line", { "data-marker": "segment", y1: PAD.t, y2: H - PAD.b, stroke: "var(--green)", "stroke-width": 2 });
    return (step) => { for (const end of ["x1", "x2"]) marker.setAttribute(end, x(step).toFixed(2)); };
  };
  const placesFigure = (place, { frames, words }) => {
    const count = frames[0][0].length, columns = Math.min(count, 10), height = 50 + 52 * Math.ceil(count / columns);
    const svg = canvas(place, "the layer's places", height), said = make(svg, "text", { x: 20, y: 20 });
    const spots = [...Array(count).keys()].map((k) => {
      const cx = 36 + (k % columns) * (W - 72) / Math.max(1, columns - 1), cy = 62 + 52 * Math.floor(k / columns);
      const ring = make(svg, "circle", { cx, cy, r: 20, fill: "none", stroke: "var(--orange)", "stroke-width": 3 });
      const dot = make(svg, "circle", { cx, cy, r: 15, stroke: "var(--blue)", "stroke-width": 2, "data-place": k });
      return { ring, dot, name: make(svg, "text", { x: cx, y: cy + 4, "text-anchor": "middle", "data-label": k }) };
    });
    return (step) => {
      const [labels, sends] = frames[step], move = step > 0 ? words[step - 1] : "the start";
      const [, one, other] = step > 0 ? move.match(/ (\d+) to (\d+)$/).map(Number) : [0, -1, -1];
      spots.forEach(({ ring, dot, name }, k) => {
        ring.setAttribute("opacity", k === one || k === other ? 1 : 0);
        dot.setAttribute("fill", sends[k] ? "var(--blue)" : "none");
        name.textContent = String(labels[k]);
        name.setAttribute("style", sends[k] ? "fill: var(--paper)" : "");
      });
      said.textContent = move;
      return move;
    };
  };
  const control = (number, last, show) => {
    const slider = document.querySelector(`[data-slider="${number}"]`), play = document.querySelector(`[data-play="${number}"]`);
    let timer = null;
    const stop = () => { clearInterval(timer); timer = null; play.textContent = "Play"; };
    play.addEventListener("click", () => {
      if (timer !== null) { stop(); return; }
      play.textContent = "Pause";
      if (Number(slider.value) >= last) slider.value = "0";
      timer = setInterval(() => {
        slider.value = String(Math.min(last, Number(slider.value) + 1));
        show();
        if (Number(slider.value) >= last) stop();
      }, 700);
    });
    slider.addEventListener("input", () => { stop(); show(); });
    show();
  };
  addEventListener("beforeprint", () => { for (const part of document.querySelectorAll("details")) part.open = true; });
  sections.forEach((section, number) => {
    const find = (kind) => document.querySelector(`[data-figure="${kind}"][data-section="${number}"]`);
    if (section.kind === "certificate") { spectrum(find("spectrum"), section.spectrum); return; }
    if (section.kind === "walk") {
      const marks = walkFigure(find("walk"), section.walk), moved = placesFigure(find("places"), section.walk);
      const slider = document.querySelector(`[data-slider="${number}"]`), output = document.querySelector(`[data-output="${number}"]`);
      control(number, section.walk.frames.length - 1, () => {
        const step = Number(slider.value), words = `${step} of ${section.walk.words.length}: ${moved(step)}`;
        marks(step);
        output.textContent = words;
        slider.setAttribute("aria-valuetext", words);
      });
      return;
    }
    const moves = [along(find("loss"), section, "loss", "loss")];
    if (section.curve.accuracy) moves.push(along(find("accuracy"), section, "accuracy", "accuracy"));
    const turn = neurons(find("neurons"), section.neurons);
    residuals(find("residuals"), section.residuals);
    if (section.spectrum) spectrum(find("spectrum"), section.spectrum);
    if (section.surface) surface(find("surface"), section.surface);
    const slider = document.querySelector(`[data-slider="${number}"]`), output = document.querySelector(`[data-output="${number}"]`);
    const play = document.querySelector(`[data-play="${number}"]`), times = section.neurons.t;
    const show = () => {
      const step = Number(slider.value), now = times[step];
      moves.forEach((move) => move(now));
      turn(step);
      const words = `t = ${now.toFixed(3)}, loss ${at(section.curve.t, section.curve.loss, now).toPrecision(4)}`;
      output.textContent = words;
      slider.setAttribute("aria-valuetext", words);
    };
    let timer = null;
    const stop = () => { clearInterval(timer); timer = null; play.textContent = "Play"; };
    play.addEventListener("click", () => {
      if (timer !== null) { stop(); return; }
      play.textContent = "Pause";
      if (Number(slider.value) >= times.length - 1) slider.value = "0";
      const calm = matchMedia("(prefers-reduced-motion: reduce)").matches;
      timer = setInterval(() => {
        slider.value = String(Math.min(times.length - 1, Number(slider.value) + (calm ? 10 : 1)));
        show();
        if (Number(slider.value) >= times.length - 1) stop();
      }, calm ? 700 : 60);
    });
    slider.addEventListener("input", () => { stop(); show(); });
    addEventListener("beforeprint", () => { if (section.curve.point) { slider.value = String(Math.round((times.length - 1) / 2)); show(); } });
    show();
  });
})();
