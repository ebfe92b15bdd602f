"use strict";
// The plane of /operator: a pointer or the keyboard moves points, and clicks choose them. The worker computes the rest.
(() => {
  const REACH = 2.5, NEAR = { mouse: 14, touch: 26, pen: 18 }, STEP = 0.1, LITTLE = 0.01, LATE = 1000;
  const part = (id) => document.getElementById(id);
  const field = (name) => part(`{"field":"${name}"}`);
  const set = (name, value) => dash_clientside.set_props({ field: name }, { value });
  const within = (x) => Math.min(Math.max(x, -REACH), REACH);

  const points = (plane) => plane.calcdata?.find(([first]) => first?.trace?.meta === "points") ?? [];
  const count = () => Number(part("operator-count").textContent);
  const chosen = () => Math.min(Number(field("point").value), count());
  const choose = (i) => { if (i !== chosen() || i !== Number(field("point").value)) { set("point", i); } };

  // Only one move is pending at a time. When it is drawn, the newest move is sent, and those in between are dropped.
  let waiting = null, sent = null;
  const flush = () => {
    if (!waiting) { sent = null; return; }
    sent = { frames: limelight.statistics.frames, at: performance.now() };
    limelight.act("move", waiting);
    waiting = null;
    const arrived = () => {
      const now = performance.now();
      limelight.statistics.frames > sent.frames || now - sent.at > LATE ? flush() : requestAnimationFrame(arrived);
    };
    requestAnimationFrame(arrived);
  };
  const move = (i, x, y) => {
    waiting = [i, within(x), within(y)];
    last = { i, x: waiting[1], y: waiting[2], at: performance.now() };
    if (!sent) { flush(); }
  };
  let last = null; // the last position sent for a point

  const axes = (plane) => [plane._fullLayout.xaxis, plane._fullLayout.yaxis, plane.getBoundingClientRect()];
  const place = (plane, event) => {
    const [x, y, box] = axes(plane);
    return [x.p2d(event.clientX - box.left - x._offset), y.p2d(event.clientY - box.top - y._offset)];
  };
  const nearest = (plane, event) => {
    if (!plane._fullLayout?.xaxis) { return 0; }
    const [x, y, box] = axes(plane);
    let found = 0, least = NEAR[event.pointerType] ?? NEAR.mouse;
    points(plane).forEach((point, i) => {
      const apart = Math.hypot(x.d2p(point.x) + x._offset + box.left - event.clientX, y.d2p(point.y) + y._offset + box.top - event.clientY);
      if (apart < least) { least = apart; found = i + 1; }
    });
    return found;
  };

  // The dragged point follows the pointer at once; its weights follow when they are computed.
  const follow = () => {
    if (!held?.moved) { return; }
    const [x, y] = axes(held.plane), where = `translate(${x.d2p(last.x)},${y.d2p(last.y)})`;
    for (const { trace } of held.plane.calcdata.map(([first]) => first)) {
      const nth = { points: held.i - 1, chosen: 0 }[trace?.meta];
      if (nth !== undefined) { held.plane.querySelectorAll(`.trace${trace.uid} path.point`)[nth]?.setAttribute("transform", where); }
    }
    requestAnimationFrame(follow);
  };

  let held = null;
  const plane = (event) => event.target.closest?.("#operator-plane");
  document.addEventListener("pointerdown", (event) => {
    const at = plane(event), i = at && event.isPrimary && event.button === 0 ? nearest(at, event) : 0;
    if (!i) { return; }
    held = { plane: at, i, pointer: event.pointerId, x: event.clientX, y: event.clientY, moved: false };
    at.setPointerCapture(event.pointerId);
    at.classList.add("held");
    at.focus({ preventScroll: true });
    choose(i);
    event.preventDefault();
    event.stopPropagation();
  }, true);
  document.addEventListener("pointermove", (event) => {
    if (!held) {
      const at = plane(event);
      if (at) { at.classList.toggle("near", nearest(at, event) > 0); }
      return;
    }
    if (event.pointerId !== held.pointer) { return; }
    const began = !held.moved && Math.hypot(event.clientX - held.x, event.clientY - held.y) > 3;
    held.moved ||= began;
    if (held.moved) { move(held.i, ...place(held.plane, event)); }
    if (began) { follow(); }
    event.stopPropagation();
  }, true);
  const release = (event) => {
    if (!held || event.pointerId !== held.pointer) { return; }
    held.plane.classList.remove("held");
    tell(held.i, held.moved ? last : null);
    held = null;
  };
  document.addEventListener("pointerup", release, true);
  document.addEventListener("pointercancel", release, true);
  // A finger on a point drags the point; elsewhere it scrolls the page.
  document.addEventListener("touchstart", (event) => { if (held) { event.preventDefault(); } }, { capture: true, passive: false });
  document.addEventListener("mousedown", (event) => { if (held) { event.stopPropagation(); } }, true);

  const tell = (i, at) => {
    const point = at ?? points(part("operator-plane"))[i - 1];
    if (point) { limelight.tell({ "operator-told": `Point ${i} of ${count()}, at ${point.x.toFixed(2)}, ${point.y.toFixed(2)}`.replaceAll("-", "−") }); }
  };
  const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] };
  document.addEventListener("keydown", (event) => {
    if (event.target.id !== "operator-plane" || event.ctrlKey || event.metaKey || event.altKey) { return; }
    const turn = { "[": -1, "]": 1 }[event.key], arrow = ARROWS[event.key], i = chosen();
    if (turn) {
      const next = (i - 1 + turn + count()) % count() + 1;
      choose(next);
      tell(next, null);
    } else if (arrow) {
      const fresh = last?.i === i && performance.now() - last.at < LATE ? last : points(event.target)[i - 1];
      const by = event.shiftKey ? LITTLE : STEP;
      move(i, fresh.x + by * arrow[0], fresh.y + by * arrow[1]);
      tell(i, last);
    } else { return; }
    event.preventDefault();
  });

  // A click in the matrix or on a bar also chooses a point.
  document.addEventListener("lab:drawn", ({ target }) => {
    const along = { "operator-matrix": "y", "operator-entropy": "x", "operator-mass": "x" }[target.id];
    if (!along || target.dataset.chooses) { return; }
    target.dataset.chooses = "yes";
    target.on("plotly_click", ({ points: [point] }) => choose(point[along]));
  });

  document.addEventListener("click", async ({ target }) => {
    if (target.id === "operator-arrange") { limelight.act("arrange", null); }
    if (target.id !== "operator-copy") { return; }
    const lines = part("operator-code");
    let told = "The program was copied to the clipboard.";
    try { await navigator.clipboard.writeText(lines.textContent); } catch {
      getSelection().selectAllChildren(lines);
      told = "The program is selected; copy it with the keyboard.";
    }
    limelight.tell({ "operator-copied": told });
  });

  // The worker reports the moved points. When none is being moved, they are written to their field, and so to the address.
  setInterval(() => {
    const told = part("operator-moved")?.textContent, kept = field("moved")?.value;
    if (told !== undefined && kept !== undefined && !held && !sent && told !== kept) { set("moved", told); }
  }, 300);
})();
