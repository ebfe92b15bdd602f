"use strict";
// Draws each picture when it comes into view, in the page's colors, and again when those change.
(async () => {
  const packed = Uint8Array.from(atob(document.getElementById("plotly").textContent), (c) => c.charCodeAt(0));
  const plotly = document.createElement("script"); // the content security policy admits it by its hash
  plotly.textContent = await new Response(new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"))).text();
  document.head.append(plotly);

  const figures = JSON.parse(document.getElementById("figures").textContent);
  const root = document.documentElement;
  const plots = [...document.querySelectorAll(".plot")];
  const ink = () => getComputedStyle(root).getPropertyValue("--ink").trim();
  const config = { responsive: true, displaylogo: false, modeBarButtonsToRemove: ["lasso2d", "select2d", "sendDataToCloud"] };

  const draw = (plot) => {
    const figure = figures[Number(plot.dataset.figure)];
    const layout = { ...figure.layout, autosize: true };
    layout.font = { ...layout.font, color: ink() };
    Plotly.newPlot(plot, { data: figure.data, layout, config, frames: figure.frames }).then(() => { plot.dataset.drawn = "yes"; });
  };

  const seen = new IntersectionObserver((entries) => {
    for (const entry of entries) {
      if (entry.isIntersecting) { seen.unobserve(entry.target); draw(entry.target); }
    }
  }, { rootMargin: "400px" });
  plots.forEach((plot) => seen.observe(plot));
  addEventListener("beforeprint", () => plots.filter((plot) => !plot.dataset.drawn).forEach(draw));

  const recolor = () => plots.filter((plot) => plot.dataset.drawn).forEach((plot) => Plotly.relayout(plot, { "font.color": ink() }));
  const dark = matchMedia("(prefers-color-scheme: dark)");
  dark.addEventListener("change", recolor);
  document.getElementById("theme").addEventListener("click", () => {
    const now = root.dataset.theme || (dark.matches ? "dark" : "light");
    root.dataset.theme = now === "dark" ? "light" : "dark";
    recolor();
  });
})();
