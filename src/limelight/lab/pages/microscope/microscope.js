"use strict";
// On the page of the microscope a click chooses a head, or the token whose row it hits.
document.addEventListener("lab:drawn", ({ target }) => {
  const chosen = {
    "scope-heads": ({ x, y }) => ["head", `${x}.${y}`],
    "scope-map": ({ y }) => ["token", `${y + 1}`],
    "scope-changed": ({ y }) => ["token", `${y + 1}`],
  }[target.id];
  if (!chosen || target.dataset.listens || !target.on) { return; }
  target.dataset.listens = "yes";
  target.on("plotly_click", ({ points }) => { if (points[0]) { limelight.pick(...chosen(points[0])); } });
});
