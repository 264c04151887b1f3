"use strict";
for (const view of document.querySelectorAll(".view")) {
  const stack = view.querySelector(".stack");
  view.querySelector("input").addEventListener("input", (event) => {
    view.style.setProperty("--map", event.target.value / 100);
  });
  const toPeak = () => { stack.scrollLeft = view.dataset.peak * stack.scrollWidth - stack.clientWidth / 2; };
  addEventListener("load", toPeak);
  addEventListener("resize", toPeak);
}
