// How far a reconstruction is: its stages, the share that is done, and the time that is left.

import { duration, element, part } from "./elements.js";

const REFINING = { features: "Features", matching: "Matching", cameras: "Cameras", dense: "Dense depth" };
const STAGES = {
  upload: "Sending", queue: "Waiting", transfer: "Network", aggregator: "Network", heads: "Network", loops: "Network", post: "Geometry",
  ...REFINING, store: "Storing", export: "Files",
};
const STEPS = [...new Set(Object.values(STAGES))];
const DOING = {
  queue: "waiting for its turn", transfer: "the network looks at the pictures", aggregator: "the network looks at the pictures",
  heads: "the network works out cameras and depth", loops: "looking for places that were seen before", post: "putting everything into one world",
  features: "looking for features in the pictures", matching: "matching features between the pictures",
  cameras: "finding the cameras that fit the matches", dense: "measuring depth pixel by pixel", store: "storing the result",
  export: "making files",
};

export class Progress {
  refining = new Set();  // the stages of the refinement that the present work has
  began = performance.now();
  left = null;

  // `wanted` is what of the refinement was asked for: off, cameras or dense.
  begin(wanted) {
    this.refining = new Set({ cameras: ["features", "matching", "cameras"], dense: Object.keys(REFINING) }[wanted] || []);
    this.began = performance.now();
    this.left = null;
    clearInterval(this.ticking);
    this.ticking = setInterval(() => this.tick(), 1000);
    this.step("upload", 0, "sending");
  }

  end() {
    clearInterval(this.ticking);
    this.ticking = null;
    document.title = "Reconstruction";
  }

  step(stage, share, text) {
    if (stage in REFINING) this.refining.add(stage);
    const shown = STEPS.filter(name => {
      const own = Object.keys(REFINING).find(each => REFINING[each] === name);
      return !own || this.refining.has(own);
    });
    const now = shown.indexOf(STAGES[stage] || "Network");
    part("stages").replaceChildren(...shown.map((name, index) => {
      const item = element("li", { textContent: name, className: index < now ? "done" : index === now ? "now" : "" });
      if (index === now) item.setAttribute("aria-current", "step");
      return item;
    }));
    part("bar").value = share;
    part("status").textContent = text || DOING[stage] || "working";
    document.title = `${Math.round(100 * share)} % · Reconstruction`;
  }

  // The service's word on a job that has not ended.
  waiting({ state, queue_position: before, eta_seconds: left }) {
    this.left = left === null ? null : { seconds: left, at: performance.now() };
    if (state === "queued") this.step("queue", 0, before ? `${before} before yours` : "next in line");
    if (state === "cancelling") part("status").textContent = "stopping at the next step";
    this.tick();
  }

  tick() {
    const passed = duration((performance.now() - this.began) / 1000);
    const left = this.left && this.left.seconds - (performance.now() - this.left.at) / 1000;
    part("time").textContent = left === null ? `${passed} so far` : `${passed} so far · ${left < 1 ? "nearly done" : `about ${duration(left)} left`}`;
  }
}
