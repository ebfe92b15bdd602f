"use strict";
// Draws what the workers compute. This script computes nothing itself: a frame holds whole figures, or new numbers for
// figures that are drawn already.
(() => {
  const root = document.documentElement;
  const ink = () => getComputedStyle(root).getPropertyValue("--ink").trim();
  const config = { responsive: true, plotGlPixelRatio: Math.min(devicePixelRatio, 2), displaylogo: false, modeBarButtonsToRemove: ["lasso2d", "select2d", "sendDataToCloud"] };

  // Without a graphics card the processor draws every sample of a pixel. Edges are then not smoothed, which halves the time.
  const smooth = HTMLCanvasElement.prototype.getContext;
  const isSoftware = () => {
    const gl = smooth.call(document.createElement("canvas"), "webgl"), info = gl?.getExtension("WEBGL_debug_renderer_info");
    const name = info ? gl.getParameter(info.UNMASKED_RENDERER_WEBGL) : "";
    gl?.getExtension("WEBGL_lose_context")?.loseContext();
    return /swiftshader|llvmpipe|softpipe|basic render/i.test(name);
  };
  let software;
  HTMLCanvasElement.prototype.getContext = function getContext(kind, options) {
    const plain = kind.startsWith("webgl") && (software ??= isSoftware());
    return smooth.call(this, kind, plain ? { ...options, antialias: false } : options);
  };

  const numbers = (spec) => {
    if (!spec || spec.dtype !== "f4") { return spec; }
    const text = atob(spec.bdata), bytes = new Uint8Array(text.length);
    for (let i = 0; i < text.length; i += 1) { bytes[i] = text.charCodeAt(i); }
    const flat = new Float32Array(bytes.buffer);
    const [rows, columns] = spec.shape.split(",").map(Number);
    return columns === undefined ? flat : Array.from({ length: rows }, (_, i) => flat.subarray(i * columns, (i + 1) * columns));
  };

  // Plotly's script takes a second to load, so it is loaded after the text of the page is shown.
  let loaded;
  const plotly = () => loaded ??= new Promise((resolve, reject) => {
    const script = document.createElement("script");
    Object.assign(script, { src: document.getElementById("plotly").href, onload: resolve, onerror: reject });
    document.head.append(script);
  });

  const redraw = async (place, figure) => {
    await plotly();
    const layout = { ...figure.layout, autosize: true, font: { ...figure.layout.font, color: ink() } };
    delete layout.height; // the element has a height already
    await Plotly.react(place, figure.data, layout, config);
    place.dataset.drawn = "yes";
    place.dispatchEvent(new CustomEvent("lab:drawn", { bubbles: true }));
  };

  // Give a surface's new heights directly to Plotly's drawing code. Restyling would build its whole scene again, which is
  // five times slower. Returns false if Plotly's internals are not as expected.
  const lift = (place, trace, z, moving) => {
    const full = place._fullData?.[trace], scene = place._fullLayout?.scene?._scene, drawn = scene?.traces?.[full?.uid];
    if (full?.type !== "surface" || !drawn?.update || !scene.glplot?.redraw) { return false; }
    full.z = place.data[trace].z = z;
    // While a surface moves, three things are left out to save time: transparency, the values shown under the pointer, and
    // Plotly's refinement of its 40 lines to 128 or more, which takes twenty times as long.
    full.opacity = moving ? 1 : place.data[trace].opacity ?? 1;
    drawn.refineData = !moving;
    if (moving) { drawn.dataScaleX = drawn.dataScaleY = 1; }
    drawn.update(full);
    if (moving && drawn.surface) { drawn.surface.dirty = false; }
    scene.glplot.redraw();
    if (moving) { rough.set(place.id, () => lift(place, trace, z, false)); }
    return true;
  };
  // The surfaces that were drawn with these omissions are drawn again in full when nothing has moved for a while.
  const rough = new Map();
  let rest;
  const settled = () => { rough.forEach((draw) => draw()); rough.clear(); };

  const renew = (place, changes) => {
    const others = [];
    for (const [trace, attributes] of changes) {
      const said = Object.fromEntries(Object.entries(attributes).map(([name, value]) => [name, numbers(value)]));
      if (!("z" in said && Object.keys(said).length === 1 && lift(place, trace, said.z, true))) { others.push([trace, said]); }
    }
    if (!others.length) { return undefined; }
    const data = place.data.map((trace, i) => Object.assign({}, trace, ...others.filter(([at]) => at === i).map(([, said]) => said)));
    return Plotly.react(place, data, place.layout, config);
  };

  const tell = (words) => {
    for (const [id, text] of Object.entries(words ?? {})) {
      const place = document.getElementById(id);
      if (place && place.textContent !== text) { place.textContent = text; }
    }
  };

  const shown = (then) => new Promise((resolve) => { document.hidden ? resolve() : requestAnimationFrame(() => then(resolve)); });
  const soon = () => shown((resolve) => resolve()), painted = () => shown(setTimeout);
  const wait = (seconds) => new Promise((resolve) => setTimeout(resolve, 1000 * seconds));

  // A page's main pictures are its surfaces or, without surfaces, its first picture. While they move, the others get a tenth
  // of the time. They are drawn in turn, the one that has waited longest first, and at least one every four seconds.
  const later = new Map(); // pictures with changes that are not drawn yet, in the order of their arrival
  let due = 0; // the time from which another picture may be drawn
  const timed = async (place, changes, main) => {
    const start = performance.now();
    await renew(place, changes);
    place.dispatchEvent(new CustomEvent("lab:renewed"));
    if (!main) { due = start + Math.min(10 * (performance.now() - start), 4000); }
  };

  const first = () => [...document.querySelectorAll(".plot")].find((place) => place.offsetParent); // not a hidden one

  const statistics = { frames: 0 };

  // Each page with a simulation has one websocket. It requests the next frame before it draws this one, so that the worker
  // computes while the browser draws. A frame that arrives meanwhile is drawn after this one.
  const here = { page: undefined, values: undefined, socket: undefined, waiting: [], unasked: undefined };
  const isOpen = () => here.socket?.readyState === WebSocket.OPEN;
  const send = (message) => { if (isOpen()) { here.socket.send(JSON.stringify(message)); } else { here.waiting.push(message); } };
  // A hidden page requests no frame, so that its simulation waits and takes no processor time.
  const ask = (after) => {
    here.unasked = document.hidden ? after : undefined;
    if (!document.hidden && isOpen()) { send(after < 0 ? { after, values: here.values } : { after }); }
  };
  document.addEventListener("visibilitychange", () => { if (here.unasked !== undefined) { ask(here.unasked); } });
  const open = () => {
    const { name, key } = here.page, address = new URL(`/frames?page=${name}&key=${key}`, location.href);
    address.protocol = location.protocol === "https:" ? "wss:" : "ws:";
    const socket = here.socket = new WebSocket(address);
    here.unasked = undefined;
    let drawing = Promise.resolve();
    socket.onopen = () => { ask(-1); here.waiting.splice(0).forEach(send); };
    socket.onmessage = ({ data }) => {
      const message = JSON.parse(data);
      if (message.settings) { settle(message.settings); return; }
      drawing = drawing.then(() => show(message)).catch(console.error);
    };
    socket.onclose = async () => { await wait(1); if (here.socket === socket && here.page.key === key) { open(); } };
  };
  const play = (page) => {
    here.page = page;
    clearTimeout(typing);
    offered.clear();
    kept.clear();
    settle(page);
    here.socket?.close();
    open();
    return page.key;
  };
  const named = (kind, texts) => Object.fromEntries(Object.entries(texts).map(([name, text]) => [JSON.stringify({ [kind]: name }), text]));
  const settle = ({ values, said, query, wrong, faults }) => {
    here.values = values;
    tell({ wrong, ...named("said", said), ...named("fault", faults) });
    for (const [name, text] of Object.entries(faults)) { field(name)?.setAttribute("aria-invalid", Boolean(text)); }
    if (query !== location.search) { history.replaceState(history.state, "", location.pathname + query + location.hash); }
  };
  // What is typed is sent when the keyboard rests. A text that no message may hold is not cut: its length is sent, for a
  // sentence that tells so.
  const RESTS = 300, LONGEST = 4000; // milliseconds, characters
  let typing;
  const sendable = (value) => {
    if (typeof value !== "string") { return value; }
    const length = value.length > LONGEST ? [...value].length : 0;
    return length > LONGEST ? length : value.toWellFormed?.() ?? value;
  };
  const set = (held, names) => {
    const message = { set: Object.fromEntries(names.map(({ field }, i) => [field, sendable(held[i])])) };
    clearTimeout(typing);
    names.forEach(({ field }, i) => kept.set(field, held[i]));
    choose();
    if (document.activeElement?.matches("textarea")) { typing = setTimeout(send, RESTS, message); } else { send(message); }
  };

  // Lists whose options the worker sends. A hidden input holds the name chosen, also if it is none of the options.
  const field = (name) => document.getElementById(JSON.stringify({ field: name }));
  const offered = new Map(), kept = new Map(); // of each list, by its name: the options, and the name chosen
  const choose = () => {
    for (const select of document.querySelectorAll("select.list")) {
      const name = JSON.parse(select.id).list, held = kept.get(name) ?? field(name)?.value ?? "", options = offered.get(name);
      if (options) {
        const absent = options.some(([value]) => value === held) ? [] : [[held, `${held} (not available)`]];
        const all = [...options, ...absent], now = JSON.stringify(all);
        if (select.dataset.options !== now) {
          select.dataset.options = now;
          select.replaceChildren(...all.map(([value, label]) => new Option(label, value)));
        }
      }
      select.value = held;
    }
  };
  const offer = (choices) => {
    for (const [name, options] of Object.entries(choices)) { offered.set(name, options); }
    choose();
  };
  document.addEventListener("change", ({ target }) => {
    if (target.matches?.("select.list")) { pick(JSON.parse(target.id).list, target.value); }
  });
  const pick = (name, value) => dash_clientside.set_props({ field: name }, { value });
  window.limelight = { statistics, redraw, tell, pick, act: (name, given) => send({ act: name, given }) };

  const show = async (frame) => {
    tell({ note: frame.note ?? "", ...frame.words });
    if (frame.choices) { offer(frame.choices); }
    if (frame.again) { await wait(frame.again); ask(-1); return; }
    ask(frame.n);
    const button = document.getElementById("play"), label = frame.playing ? "Pause" : "Play";
    if (button && button.textContent !== label) { button.textContent = label; }
    const work = [];
    let another = !frame.playing || performance.now() >= due;
    for (const [id, changes] of Object.entries(frame.updates ?? {})) { later.set(id, changes); }
    for (const [id, figure] of Object.entries(frame.figures ?? {})) {
      const place = document.getElementById(id);
      later.delete(id);
      rough.delete(id);
      if (place) { work.push({ main: "scene" in figure.layout, draw: () => redraw(place, figure) }); }
    }
    for (const [id, changes] of later) {
      const place = document.getElementById(id);
      const main = Boolean(place?._fullLayout?.scene) || place === first();
      if (!place?.dataset.drawn || !(main || another)) { continue; }
      another = !frame.playing || (another && main);
      later.delete(id);
      work.push({ main, draw: () => timed(place, changes, main) });
    }
    // The main pictures are shown before the others are drawn.
    work.sort((one, other) => other.main - one.main);
    for (const [i, { main, draw }] of work.entries()) {
      if (i && !main && work[i - 1].main) { await painted(); }
      await draw();
    }
    clearTimeout(rest);
    if (rough.size && !frame.playing) { rest = setTimeout(settled, 300); }
    await soon();
    statistics.frames += 1;
  };

  const copy = async () => {
    let told = "The link was copied to the clipboard.";
    try { await navigator.clipboard.writeText(location.href); } catch { told = `The link: ${location.href}`; }
    tell({ note: told });
  };

  // Dash marks its radio buttons and checkboxes as options of a list with a control inside each, which a screen reader does
  // not reach. Without these marks they are ordinary labels of controls. Dash sets some marks again when a value changes.
  const plain = (panel) => {
    for (const list of panel.querySelectorAll("[role=listbox]")) { list.removeAttribute("role"); }
    for (const option of panel.querySelectorAll("label[role=option], label[aria-selected]")) {
      option.removeAttribute("role");
      option.removeAttribute("aria-selected");
    }
    for (const file of panel.querySelectorAll("[type=file]:not([aria-label])")) { // visitors use the button beside it
      file.setAttribute("aria-label", "A CSV file");
      file.tabIndex = -1;
    }
  };
  const mend = new MutationObserver(() => document.querySelectorAll(".panel").forEach(plain));
  const watch = () => {
    mend.disconnect();
    for (const panel of document.querySelectorAll(".panel")) {
      plain(panel);
      mend.observe(panel, { subtree: true, childList: true, attributeFilter: ["role", "aria-selected"] });
    }
  };

  const arrive = (_, path) => {
    const name = (path || "/").split("/")[1];
    const links = [...document.querySelectorAll("nav a")];
    const current = links.find((link) => link.pathname === `/${name}`) ?? (name === "" ? links[0] : undefined);
    for (const link of links) { link === current ? link.setAttribute("aria-current", "page") : link.removeAttribute("aria-current"); }
    if (current) { document.title = `${current.textContent} · Limelight`; }
    requestAnimationFrame(() => { watch(); setTimeout(plotly); }); // after the page is painted
    return "ready";
  };

  window.dash_clientside = Object.assign({}, window.dash_clientside, { lab: { play, set, arrive } });

  document.addEventListener("click", ({ target }) => {
    const button = target.closest("button")?.id;
    if (button === "copy") { copy(); }
    if (button === "play") { send({ press: target.textContent === "Pause" ? "pause" : "play" }); }
    if (button === "step" || button === "reset") { send({ press: button }); }
  });

  const dark = matchMedia("(prefers-color-scheme: dark)");
  const recolor = () => document.querySelectorAll(".plot[data-drawn]").forEach((place) => Plotly.relayout(place, { "font.color": ink() }));
  dark.addEventListener("change", recolor);
  try { if (localStorage.theme) { root.dataset.theme = localStorage.theme; } } catch { /* a browser without storage */ }
  document.addEventListener("click", (event) => {
    if (!event.target.closest("#theme")) { return; }
    const now = root.dataset.theme || (dark.matches ? "dark" : "light");
    root.dataset.theme = now === "dark" ? "light" : "dark";
    try { localStorage.theme = root.dataset.theme; } catch { /* a browser without storage */ }
    recolor();
  });

  // A chosen or dropped file that is too large is not read.
  const weigh = (event) => {
    const file = event.target.closest?.("#upload") && (event.dataTransfer ?? event.target).files?.[0];
    const most = Number(event.target.closest?.("[data-most]")?.dataset.most);
    if (!file || file.size <= most) { return; }
    event.stopPropagation();
    event.preventDefault();
    const [size, limit] = [file.size, most].map((bytes) => (bytes / 2 ** 20).toFixed(0));
    tell({ uploaded: `“${file.name.slice(0, 60)}” has ${size} MB; the lab takes at most ${limit} MB. Choose a file with a sample of its rows.` });
    if (event.type === "change") { event.target.value = ""; }
  };
  for (const kind of ["change", "drop"]) { document.addEventListener(kind, weigh, true); }

  // Check that the server still answers. A server that was started again does not know this page, so the page reloads and is
  // restored from its address.
  let server, lost = false;
  const key = () => here.page?.key ?? "";
  const banner = (text) => {
    const place = document.getElementById("banner");
    if (place) { place.textContent = text; place.hidden = !text; }
  };
  const look = async () => {
    try {
      const answer = await fetch("/alive", { cache: "no-store", signal: AbortSignal.timeout(4000) });
      const now = await answer.text();
      if (server !== undefined && now !== server) { location.reload(); return; }
      server = now;
      if (lost) { lost = false; banner(""); }
    } catch {
      lost = true;
      banner("The lab does not answer: it was stopped, or is starting again. This page continues by itself when the lab is back.");
    }
  };
  addEventListener("pagehide", (event) => { if (key() && !event.persisted) { navigator.sendBeacon(`/bye?${key()}`); } });
  setInterval(look, 2000);
  look();
})();
