"use strict";
// A click on a test image moves the slider to it, so that the choice is part of the address.
document.addEventListener("lab:drawn", ({ target }) => {
  if (target.id !== "bias-answers" || target.dataset.listens) { return; }
  target.dataset.listens = "yes";
  target.on("plotly_click", ({ points }) => {
    const index = Number(points[0]?.customdata);
    if (Number.isInteger(index)) { dash_clientside.set_props({ field: "look" }, { value: index + 1 }); }
  });
});
