"use strict";
(() => {
  const players = [...document.querySelectorAll("audio")];
  for (const player of players) {
    const line = player.closest("figure")?.querySelector(".playhead");
    const place = () => {
      if (!line || !player.duration) return;
      const from = Number(line.dataset.from), to = Number(line.dataset.to);
      const x = String(from + (to - from) * (player.currentTime / player.duration));
      line.setAttribute("x1", x);
      line.setAttribute("x2", x);
    };
    const follow = () => { place(); if (!player.paused) requestAnimationFrame(follow); };
    player.addEventListener("play", () => {
      for (const other of players) {
        if (other === player || other.paused) continue;
        // Within one sample a listener compares: what plays goes on in the other clip at the same moment.
        if (other.closest("article") === player.closest("article")) player.currentTime = other.currentTime;
        other.pause();
      }
      if (line) line.removeAttribute("visibility");
      follow();
    });
    player.addEventListener("seeked", place);
  }

  const form = document.getElementById("filters");
  if (!form) return;
  const samples = [...document.querySelectorAll("[data-stages]")];
  const count = document.getElementById("shown");
  const level = document.getElementById("level-value");
  const show = () => {
    const stage = form.elements.namedItem("stage").value;
    const axis = form.elements.namedItem("axis").value;
    const split = form.elements.namedItem("split").value;
    const least = Number(form.elements.namedItem("level").value);
    level.textContent = least.toFixed(2);
    let shown = 0;
    for (const sample of samples) {
      const stages = sample.dataset.stages.split("\n");
      const severities = JSON.parse(sample.dataset.severity);
      const worst = axis ? severities[axis] : Math.max(...Object.values(severities));
      const fits = (!stage || stages.includes(stage)) && (!split || sample.dataset.split === split) && worst >= least;
      sample.hidden = !fits;
      if (!fits) for (const player of sample.querySelectorAll("audio")) player.pause();
      shown += fits;
    }
    count.textContent = `${shown} of ${samples.length} samples shown`;
  };
  form.addEventListener("input", show);
  form.addEventListener("reset", () => setTimeout(show));
  form.addEventListener("submit", (event) => event.preventDefault());
  form.hidden = false;
  show();
})();
