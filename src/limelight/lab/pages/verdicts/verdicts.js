"use strict";
// Draws a claim's pictures as they come into view, and looks for news when a visitor comes back to the page.
(() => {
  let figures = {};
  const drawn = new Set();

  const draw = async (place) => {
    const figure = figures[place.id];
    if (!figure) { return; }
    drawn.add(place);
    await limelight.redraw(place, figure);
    if (figure.frames?.length) { await Plotly.addFrames(place, figure.frames); }
  };

  const seen = new IntersectionObserver((entries) => {
    for (const entry of entries) {
      if (entry.isIntersecting) { seen.unobserve(entry.target); draw(entry.target); }
    }
  }, { rootMargin: "400px" });

  // A picture that has left the page keeps a context of WebGL, of which a browser has few.
  const tidy = () => {
    for (const place of drawn) {
      if (!place.isConnected) { drawn.delete(place); if (place.layout) { Plotly.purge(place); } }
    }
  };

  const pictures = ([given]) => {
    figures = given ?? {};
    tidy();
    const watch = () => {
      for (const id of Object.keys(figures)) {
        const place = document.getElementById(id);
        if (!place) { continue; }
        if (place.dataset.drawn) { draw(place); } else { seen.observe(place); }
      }
    };
    requestAnimationFrame(() => requestAnimationFrame(watch)); // when their places are there
  };

  // From the table to a claim and back: the focus goes along, to its title, or to the link that led there.
  let before;
  const arrive = () => {
    const now = new URLSearchParams(location.search).get("claim") ?? "";
    const came = before;
    before = now;
    tidy();
    requestAnimationFrame(() => {
      dash_clientside.set_props("verdict-clock", { disabled: !document.querySelector("[data-running=yes]") });
      const title = document.getElementById("verdict-title");
      if (location.pathname === "/verdicts") { document.title = `${title?.textContent ?? "Verdicts"} · Limelight`; }
      if (came === undefined || came === now) { return; }
      if (title) { scrollTo(0, 0); title.focus({ preventScroll: true }); return; }
      document.querySelector(`.claims a[href$="claim=${CSS.escape(came)}"]`)?.focus();
    });
    return dash_clientside.no_update;
  };

  const look = () => {
    if (!document.hidden && document.getElementById("verdict-content")) {
      dash_clientside.set_props("verdict-look", { data: { at: Date.now() } });
    }
  };
  addEventListener("focus", look);
  document.addEventListener("visibilitychange", look);

  window.dash_clientside = Object.assign({}, window.dash_clientside, { verdicts: { pictures, arrive } });
})();
