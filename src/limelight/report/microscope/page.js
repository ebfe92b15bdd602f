"use strict";
// Colors the grid of heads by a measure, and shows the map of one head over the tokens.
(async () => {
  const $ = (id) => document.getElementById(id);
  const make = (tag, properties = {}, ...inside) => {
    const element = Object.assign(document.createElement(tag), properties);
    element.append(...inside);
    return element;
  };
  const data = JSON.parse($("data").textContent);
  const coded = Uint8Array.from(atob($("packed").textContent), (c) => c.charCodeAt(0));
  const stream = new Blob([coded]).stream().pipeThrough(new DecompressionStream("gzip"));
  const packed = new Uint8Array(await new Response(stream).arrayBuffer());

  // Where the numbers of each head begin: low bytes of keys, high bytes, weights (each n × keys), and the mass of each key.
  let at = 0, row = 0;
  for (const layer of data.layers) {
    layer.first = row;
    layer.at = [];
    for (let head = 0; head < layer.heads; head++) { layer.at.push(at); at += 3 * layer.n * data.keys + layer.m; }
    layer.whole = at; // then, of a picture, all weights of the tokens that are no patches
    if (data.picture) at += layer.heads * data.picture.others * (layer.m - data.picture.others);
    row += layer.heads;
  }
  const linksOf = (layer, head, query) => {
    const size = layer.n * data.keys, start = layer.at[head] + query * data.keys, found = [];
    for (let i = start; i < start + data.keys; i++) {
      const key = packed[i] + 256 * packed[i + size], weight = packed[i + 2 * size] / 255;
      if (key < layer.m && weight > 0) found.push([key, weight]);
    }
    return found;
  };
  // Of a picture: what a token gives each patch, as a share of the most that it gives one; and that most.
  const patchesOf = (layer, head, token) => {
    const { others } = data.picture, count = layer.m - others, found = new Float32Array(count);
    const links = linksOf(layer, head, token).filter(([key]) => key >= others), most = Math.max(0, ...links.map(([, share]) => share));
    if (token < others) { const from = layer.whole + (head * others + token) * count; for (let i = 0; i < count; i++) found[i] = packed[from + i] / 255; }
    else for (const [key, share] of links) found[key - others] = share / most;
    return [found, most];
  };
  const massOf = (layer, head, key) => packed[layer.at[head] + 3 * layer.n * data.keys + key] / 255;

  const [, wantedLayer, wantedHead] = location.hash.match(/^#(\d+)\.(\d+)$/) || [];
  const state = { layer: 0, head: 0, measure: data.measures[0].name, token: null, zoom: 0, sort: "layer", down: false };
  if (data.layers[wantedLayer] && wantedHead < data.layers[wantedLayer].heads) Object.assign(state, { layer: Number(wantedLayer), head: Number(wantedHead) });

  const shown = (x) => (x === null ? "–" : x !== 0 && Math.abs(x) < 0.001 ? x.toExponential(1) : String(Number(x.toPrecision(3))));
  const mix = (share) => `color-mix(in srgb, var(--accent) ${Math.round(100 * share)}%, var(--panel))`;
  const plain = (name) => name.replaceAll("_", " ");
  const value = (layer, head, name) => data.values[name][data.layers[layer].first + head];
  const strongest = (name) => data.values[name].reduce((best, x, i) => (x !== null && (best < 0 || x > data.values[name][best]) ? i : best), -1);

  // All heads.
  const cells = [], differences = [];
  const buildGrid = (grid, cells) => {
    const most = Math.max(...data.layers.map((layer) => layer.heads));
    const heads = [...Array(most).keys()].map((head) => make("th", { scope: "col", textContent: head }));
    grid.append(make("caption", { className: "hidden", textContent: "A button for each head: rows are layers, columns heads" }),
      make("thead", {}, make("tr", {}, make("th", { scope: "col", textContent: "layer" }), ...heads)));
    const body = make("tbody");
    data.layers.forEach((layer, l) => {
      const line = make("tr", {}, make("th", { scope: "row", title: `${layer.name} (${layer.kind})` }, String(l), layer.cross ? make("small", { textContent: " cross" }) : ""));
      for (let h = 0; h < layer.heads; h++) {
        const cell = make("button", { type: "button", className: "cell", onclick: () => choose(l, h) });
        cell.dataset.place = `${l}.${h}`;
        cells.push([cell, l, h]);
        line.append(make("td", {}, cell));
      }
      body.append(line);
    });
    grid.append(body);
    grid.addEventListener("keydown", (event) => {
      const step = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] }[event.key];
      if (!step || !event.target.dataset.place) return;
      const [l, h] = event.target.dataset.place.split(".").map(Number);
      const next = grid.querySelector(`[data-place="${l + step[0]}.${h + step[1]}"]`);
      if (next) { event.preventDefault(); next.focus(); choose(l + step[0], h + step[1]); }
    });
  };
  const colorGrid = () => {
    const name = state.measure, finite = data.values[name].filter((x) => x !== null);
    const least = Math.min(...finite), most = Math.max(...finite);
    for (const [cell, l, h] of cells) {
      const x = value(l, h, name), share = most > least ? (x - least) / (most - least) : 0.5;
      cell.classList.toggle("none", x === null);
      cell.style.background = x === null ? "" : mix(share);
      cell.title = `layer ${l}, head ${h}: ${plain(name)} ${shown(x)}`;
      cell.setAttribute("aria-label", cell.title);
    }
    const measure = data.measures.find((one) => one.name === name);
    $("meaning").textContent = `${measure.meaning} ${measure.equation}, ${measure.range}.`;
    $("least").textContent = finite.length ? shown(least) : "";
    $("most").textContent = finite.length ? shown(most) : "no head has a value on this text";
  };

  const colorDifferences = () => {
    const name = $("difference").value, found = data.differences[name], most = Math.max(0, ...found.map((x) => Math.abs(x || 0)));
    for (const [cell, l, h] of differences) {
      const x = found[data.layers[l].first + h], share = most > 0 ? Math.abs(x || 0) / most : 0;
      cell.classList.toggle("none", x === null);
      cell.style.background = x === null ? "" : `color-mix(in srgb, ${x < 0 ? "var(--less)" : "var(--accent)"} ${Math.round(100 * share)}%, var(--panel))`;
      cell.title = `layer ${l}, head ${h}: ${plain(name)} ${x > 0 ? "+" : ""}${shown(x)}`;
      cell.setAttribute("aria-label", cell.title);
    }
    $("fewer").textContent = shown(-most);
    $("more").textContent = `+${shown(most)}`;
  };
  const buildDifferences = () => {
    if (!data.differences) return;
    buildGrid($("difference-grid"), differences);
    for (const name of Object.keys(data.differences)) $("difference").append(make("option", { value: name, textContent: plain(name) }));
    if (data.differences[state.measure]) $("difference").value = state.measure;
    $("difference").addEventListener("change", colorDifferences);
    colorDifferences();
  };

  // One head.
  const buildTokens = () => {
    const layer = data.layers[state.layer], two = layer.cross;
    for (const id of ["queries-title", "keys-title"]) $(id).hidden = !two;
    $("queries").hidden = !two;
    const button = (label, click) => make("button", { type: "button", className: "token", textContent: label, onclick: click });
    const pick = (query) => () => { state.token = state.token === query ? null : query; showToken(); };
    if (data.picture) {
      const others = data.texts[0].slice(0, data.picture.others);
      $("others").replaceChildren(...others.flatMap((label, token) => [button(label, () => { state.token = token; showToken(); }), " "]));
      return;
    }
    const keys = data.texts[layer.keys].slice(0, layer.m), queries = data.texts[layer.queries].slice(layer.starts, layer.starts + layer.n);
    $("keys").replaceChildren(...keys.flatMap((label, key) => [button(label, two ? null : key < layer.starts ? null : pick(key - layer.starts)), " "]));
    $("queries").replaceChildren(...(two ? queries.flatMap((label, query) => [button(label, pick(query)), " "]) : []));
  };
  const showToken = () => {
    const layer = data.layers[state.layer], { head, token } = state;
    const keys = [...$("keys").children], labels = data.texts[layer.keys];
    const links = token === null ? [] : linksOf(layer, head, token);
    const shares = new Map(links);
    keys.forEach((one, key) => {
      const share = token === null ? massOf(layer, head, key) : shares.get(key) || 0;
      one.style.background = share > 0.004 ? mix(0.75 * Math.sqrt(share)) : "";
      one.title = token === null ? "" : `${shown(share)}`;
    });
    const pressed = layer.cross ? [...$("queries").children] : keys.slice(layer.starts);
    for (const one of [...$("queries").children, ...keys]) one.setAttribute("aria-pressed", "false");
    if (token !== null && pressed[token]) pressed[token].setAttribute("aria-pressed", "true");
    if (data.picture) [...$("others").children].forEach((one, i) => one.setAttribute("aria-pressed", String(i === token)));
    const query = token === null ? "" : data.texts[layer.queries][layer.starts + token];
    $("says").textContent = token === null
      ? "Shaded by the weight that each token gets from all others. Click a token to see what it attends to."
      : `“${query}” (token ${layer.starts + token}) attends to:`;
    $("links").replaceChildren(...links.slice(0, 8).map(([key, share]) => {
      const bar = make("div", { className: "bar" });
      bar.style.width = `${100 * share}%`;
      return make("li", {}, make("span", { className: "word" }, make("bdi", { textContent: labels[key] }), ` (${key})`), make("span", {}, bar), make("span", { className: "share", textContent: `${(100 * share).toFixed(share < 0.1 ? 1 : 0)}%` }));
    }));
    if (data.picture) drawPictures(); else drawMap();
  };

  // A picture: each patch is as bright as its share of the most that the marked token gives one.
  const drawOver = (canvas, width, layer, head, token) => {
    const { rows, columns, others } = data.picture, [shares] = patchesOf(layer, head, token), pen = canvas.getContext("2d");
    canvas.width = width; canvas.height = Math.round(width * data.picture.height / data.picture.width);
    pen.imageSmoothingEnabled = data.picture.width >= width;
    pen.drawImage(image, 0, 0, canvas.width, canvas.height);
    const x = (column) => Math.round(canvas.width * column / columns), y = (row) => Math.round(canvas.height * row / rows);
    shares.forEach((share, i) => {
      const row = Math.floor(i / columns), column = i % columns;
      pen.fillStyle = `rgb(0 0 0 / ${0.85 * (1 - Math.sqrt(share))})`;
      pen.fillRect(x(column), y(row), x(column + 1) - x(column), y(row + 1) - y(row));
    });
    if (token < others) return;
    const row = Math.floor((token - others) / columns), column = (token - others) % columns, box = [x(column), y(row), x(column + 1) - x(column), y(row + 1) - y(row)];
    for (const [color, thick] of [["#000", 5], ["#ffd34d", 2.5]]) { pen.strokeStyle = color; pen.lineWidth = thick; pen.strokeRect(...box); }
  };
  const drawPictures = () => {
    const layer = data.layers[state.layer], label = data.texts[0][state.token], [, most] = patchesOf(layer, state.head, state.token);
    drawOver($("over-picture"), 420, layer, state.head, state.token);
    $("over-picture").setAttribute("aria-label", `The picture with what the ${label} attends to in layer ${state.layer}, head ${state.head}`);
    $("says").textContent = `The ${state.token < data.picture.others ? "" : "patch in "}${label} gives ${(100 * most).toFixed(most < 0.1 ? 1 : 0)}% to the brightest patch. All heads of layer ${state.layer}, and then the tokens that get most in head ${state.head}:`;
    $("heads-over-picture").replaceChildren(...[...Array(layer.heads).keys()].map((head) => {
      const canvas = make("canvas"), one = make("button", { type: "button", className: "thumbnail", onclick: () => choose(state.layer, head) }, canvas, make("span", { textContent: `head ${head}` }));
      drawOver(canvas, 120, layer, head, state.token);
      one.setAttribute("aria-pressed", String(head === state.head));
      return one;
    }));
  };
  // The part of the map that is shown: all of it, or so many tokens around the marked one.
  const shownPart = () => {
    const layer = data.layers[state.layer], within = (center, size, count) => Math.round(Math.min(count - size, Math.max(0, center - size / 2)));
    const rows = Math.min(layer.n, state.zoom || layer.n), columns = Math.min(layer.m, state.zoom || layer.m), token = state.token || 0;
    return { top: within(token, rows, layer.n), rows, left: within(layer.cross ? token * layer.m / layer.n : layer.starts + token, columns, layer.m), columns };
  };
  const MOST_PIXELS = 840; // twice as many as the map is wide
  const drawMap = () => {
    if (data.picture) return;
    const layer = data.layers[state.layer], canvas = $("map"), style = getComputedStyle(document.documentElement);
    const rgb = (name) => style.getPropertyValue(name).trim().match(/\w\w/g).map((x) => parseInt(x, 16));
    const [paper, ink, mark] = [rgb("--panel"), rgb("--accent"), rgb("--ink")];
    const { top, rows, left, columns } = shownPart(), scale = Math.min(MOST_PIXELS / Math.max(rows, columns), Math.max(1, Math.floor(420 / Math.max(rows, columns))));
    canvas.width = Math.max(1, Math.round(columns * scale)); canvas.height = Math.max(1, Math.round(rows * scale));
    canvas.style.aspectRatio = `${columns} / ${rows}`;
    canvas.style.maxWidth = `${Math.max(60, 420 * Math.min(1, columns / rows))}px`; // a long answer to a short text
    const image = new ImageData(canvas.width, canvas.height), pixels = new Uint32Array(image.data.buffer);
    const color = (share, from = paper, to = ink) => (255 << 24) | [2, 1, 0].reduce((all, c) => (all << 8) | Math.round(from[c] + share * (to[c] - from[c])), 0);
    pixels.fill(color(0));
    // A pixel of a long text stands for several pairs, and shows the largest of their weights.
    const most = new Float32Array(canvas.width * canvas.height);
    const paint = (query, key, draw) => {
      const from = Math.floor((query - top) * scale), to = Math.min(canvas.height, Math.max(from + 1, Math.round((query - top + 1) * scale)));
      const start = Math.floor((key - left) * scale), end = Math.min(canvas.width, Math.max(start + 1, Math.round((key - left + 1) * scale)));
      for (let y = from; y < to; y++) for (let x = start; x < end; x++) draw(y * canvas.width + x);
    };
    if (state.token !== null && state.token >= top && state.token < top + rows)
      for (let key = left; key < left + columns; key++) paint(state.token, key, (at) => { pixels[at] = color(0.18, paper, mark); });
    for (let query = top; query < top + rows; query++)
      for (const [key, share] of linksOf(layer, state.head, query))
        if (key >= left && key < left + columns) paint(query, key, (at) => { if (share > most[at]) { most[at] = share; pixels[at] = color(Math.sqrt(share)); } });
    canvas.getContext("2d").putImageData(image, 0, 0);
    canvas.setAttribute("aria-label", `Map of layer ${state.layer}, head ${state.head}: ${layer.n} queries by ${layer.m} keys`);
  };
  // Several texts: the interval of each mean, and the texts in which the chosen measure is least and most.
  const spreadOf = (name) => (data.over ? data.over.spreads[name][data.layers[state.layer].first + state.head] : null);
  const bounds = (name) => {
    const found = spreadOf(name);
    return found && found[0] !== null ? [make("small", { textContent: ` [${shown(found[0])}, ${shown(found[1])}]` })] : [];
  };
  const tellTexts = () => {
    if (!data.over) return;
    const found = spreadOf(state.measure), text = (i) => `text ${i + 1}, “${data.over.texts[i]}”`;
    $("texts-say").textContent = `Means over ${data.over.texts.length} texts, with ${data.over.confidence} intervals; the map is that of text 1. ` + (found
      ? `Here ${plain(state.measure)} is least in ${text(found[3])} (${shown(found[2])}) and most in ${text(found[5])} (${shown(found[4])}).`
      : `Here ${plain(state.measure)} has no meaning in any text.`);
  };
  const showHead = () => {
    const layer = data.layers[state.layer];
    $("head-title").textContent = `Layer ${state.layer}, head ${state.head}`;
    $("head-name").textContent = `${layer.name} (${layer.kind})${layer.cross ? ", cross-attention: it reads the other text" : ""}`;
    $("numbers").replaceChildren(...data.measures.map((measure) => make("div", { title: `${measure.meaning} ${measure.equation}. Source: ${measure.source}` },
      make("dt", { textContent: plain(measure.name) }), make("dd", { textContent: shown(value(state.layer, state.head, measure.name)) }, ...bounds(measure.name)))));
    tellTexts();
    for (const [cell, l, h] of [...cells, ...differences]) {
      const chosen = l === state.layer && h === state.head;
      cell.setAttribute("aria-pressed", String(chosen));
      cell.tabIndex = chosen ? 0 : -1;
    }
    for (const line of document.querySelectorAll("#numbers-of-all tbody tr")) line.classList.toggle("chosen", line.dataset.place === `${state.layer}.${state.head}`);
    buildTokens();
    showToken();
  };
  const choose = (layer, head) => {
    if (data.layers[layer].queries !== data.layers[state.layer].queries || data.layers[layer].cross !== data.layers[state.layer].cross) state.token = null;
    Object.assign(state, { layer, head });
    history.replaceState(null, "", `#${layer}.${head}`);
    showHead();
  };

  // Every number.
  const columns = ["layer", "head", ...data.measures.map((measure) => measure.name)];
  const places = data.layers.flatMap((layer, l) => [...Array(layer.heads).keys()].map((h) => [l, h]));
  const entry = ([l, h], name) => (name === "layer" ? l : name === "head" ? h : value(l, h, name));
  const buildTable = () => {
    const order = [...places].sort((a, b) => {
      const [x, y] = [entry(a, state.sort), entry(b, state.sort)];
      if (x === null || y === null) return (x === null) - (y === null);
      return (state.down ? y - x : x - y) || a[0] - b[0] || a[1] - b[1];
    });
    const headings = columns.map((name) => {
      const heading = make("th", { scope: "col" }, make("button", { type: "button", textContent: plain(name), title: (data.measures.find((one) => one.name === name) || { meaning: "" }).meaning, onclick: () => {
        state.down = state.sort === name ? !state.down : name !== "layer" && name !== "head";
        state.sort = name;
        buildTable();
        $("numbers-of-all").querySelector("th[aria-sort] button").focus();
      } }));
      if (state.sort === name) { heading.setAttribute("aria-sort", state.down ? "descending" : "ascending"); heading.firstChild.append(state.down ? " ▾" : " ▴"); }
      return heading;
    });
    const lines = order.map((place) => {
      const open = () => { choose(...place); $("head").scrollIntoView(); };
      const line = make("tr", { onclick: open }, ...columns.map((name) => make("td", {}, name === "head" ? make("button", { type: "button", className: "go", textContent: place[1], title: `show layer ${place[0]}, head ${place[1]}` }) : shown(entry(place, name)))));
      line.dataset.place = place.join(".");
      line.classList.toggle("chosen", place[0] === state.layer && place[1] === state.head);
      return line;
    });
    $("numbers-of-all").replaceChildren(make("caption", { className: "hidden", textContent: "All measures of all heads" }), make("thead", {}, make("tr", {}, ...headings)), make("tbody", {}, ...lines));
  };

  for (const measure of data.measures) $("measure").append(make("option", { value: measure.name, textContent: plain(measure.name) }));
  const begin = ["first_token", "previous_token", "entropy"].find((name) => data.values[name].some((x) => x !== null));
  if (begin) state.measure = begin;
  if (wantedLayer === undefined) {
    const kinds = ["induction", "previous_token", "next_token", "duplicate_token"];
    const best = kinds.map((name) => [name, strongest(name)]).filter(([name, i]) => i >= 0 && data.values[name][i] > 0.2);
    best.sort(([a, i], [b, j]) => data.values[b][j] - data.values[a][i]);
    const first = best.length ? best[0][1] : strongest("first_token");
    if (first >= 0) [state.layer, state.head] = places[first];
  }
  $("measure").value = state.measure;
  $("measure").addEventListener("change", (event) => { state.measure = event.target.value; colorGrid(); tellTexts(); });
  $("map").addEventListener("click", (event) => {
    const { top, rows } = shownPart(), box = event.target.getBoundingClientRect();
    state.token = top + Math.min(rows - 1, Math.max(0, Math.floor((event.clientY - box.top) / box.height * rows)));
    showToken();
  });
  if ($("zoom")) {
    $("zooms").hidden = !data.layers.some((layer) => Math.max(layer.n, layer.m) > 128);
    $("zoom").addEventListener("change", (event) => { state.zoom = Number(event.target.value); drawMap(); });
  }
  let image = null;
  if (data.picture) {
    image = Object.assign(new Image(), { src: data.picture.url });
    await image.decode();
    state.token = data.picture.others ? 0 : Math.floor(data.layers[0].m / 2);
    $("over-picture").addEventListener("click", (event) => {
      const { rows, columns, others } = data.picture, box = event.target.getBoundingClientRect();
      const place = (share, count) => Math.min(count - 1, Math.max(0, Math.floor(share * count)));
      state.token = others + place((event.clientY - box.top) / box.height, rows) * columns + place((event.clientX - box.left) / box.width, columns);
      showToken();
    });
  }
  const dark = matchMedia("(prefers-color-scheme: dark)");
  dark.addEventListener("change", drawMap);
  $("theme").addEventListener("click", () => {
    const root = document.documentElement, now = root.dataset.theme || (dark.matches ? "dark" : "light");
    root.dataset.theme = now === "dark" ? "light" : "dark";
    drawMap();
  });
  buildGrid($("grid"), cells);
  colorGrid();
  buildDifferences();
  buildTable();
  showHead();
  document.documentElement.dataset.drawn = "yes";
})();
