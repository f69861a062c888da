// ---- videos: one clock for all rows of a scene
function scene(root) {
  const videos = $$(".video", root).map((element) => {
    const { frames, columns, width, height, seams, kinds, fps, sheet } = element.dataset;
    return { element, frames: Number(frames), columns: Number(columns), width: Number(width), height: Number(height), fps: Number(fps), source: sheet,
      seams: seams ? seams.split(",").map(Number) : [], kinds: kinds ? kinds.split(",") : [], cursor: $(".cursor", element), time: $(".time", element) };
  });
  const longest = Math.max(...videos.map((video) => video.frames));
  const transport = $(".transport", root), range = $("input[type=range]", transport), at = $(".at", transport), play = $(".play", transport);
  const seams = () => [...new Set(videos.filter((video) => !video.element.hidden).flatMap((video) => video.seams))].sort((a, b) => a - b);
  let frame = 0, playing = false, began = 0, from = 0;

  function draw() {
    range.value = frame;
    const joined = videos.filter((video) => !video.element.hidden && video.seams.includes(frame));
    const kinds = [...new Set(joined.map((video) => video.kinds[video.seams.indexOf(frame)]).filter(Boolean))].join(", ");
    at.textContent = `frame ${frame + 1} of ${longest}${joined.length ? ` · seam${kinds && ` (${kinds})`}` : ""}`;
    for (const video of videos) {
      const own = Math.min(frame, video.frames - 1);
      video.cursor.style.left = `${(100 * (own + 0.5)) / video.frames}%`;
      video.element.dataset.frame = own;
      if (video.context && video.ready) {
        const { width, height, columns } = video;
        video.context.drawImage(video.image, (own % columns) * width, Math.floor(own / columns) * height, width, height, 0, 0, width, height);
      }
    }
  }
  function to(next) {
    frame = Math.max(0, Math.min(longest - 1, next));
    [began, from] = [performance.now(), frame];
    draw();
  }
  function tick(now) {
    if (!playing) return;
    const speed = Number($(".speed", transport).value) * videos[0].fps;
    const next = (from + Math.floor(((now - began) / 1000) * speed)) % longest;
    if (next !== frame) {
      frame = next;
      draw();
    }
    requestAnimationFrame(tick);
  }
  function setPlaying(on) {
    playing = on;
    play.textContent = on ? "Pause" : "Play";
    play.setAttribute("aria-pressed", String(on));
    if (on) {
      to(frame === longest - 1 ? 0 : frame);
      requestAnimationFrame(tick);
    }
  }
  play.addEventListener("click", () => setPlaying(!playing));
  const step = (next) => { setPlaying(false); to(next); };
  $(".back", transport).addEventListener("click", () => step(frame - 1));
  $(".on", transport).addEventListener("click", () => step(frame + 1));
  $(".seam", transport).addEventListener("click", () => step(seams().find((place) => place > frame) ?? seams()[0] ?? 0));
  $(".speed", transport).addEventListener("change", () => to(frame));
  range.addEventListener("input", () => step(Number(range.value)));
  for (const video of videos) {
    const seek = (event) => {
      const box = video.time.getBoundingClientRect();
      step(Math.floor(((event.clientX - box.left) / box.width) * video.frames));
    };
    video.time.addEventListener("pointerdown", seek);
    video.time.addEventListener("pointermove", (event) => event.buttons && seek(event));
  }
  function showTicks() {
    const ticks = seams().map((place) => {
      const mark = make("i");
      mark.style.left = `calc(8px + (100% - 16px) * ${longest > 1 ? place / (longest - 1) : 0})`;
      return mark;
    });
    $(".ticks", transport).replaceChildren(...ticks);
    $(".seam", transport).hidden = ticks.length === 0;
  }
  const chips = $(".chips", root);
  if (videos.length > 1) {
    const picks = videos.map((video) => {
      const chip = make("button", { type: "button" });
      chip.append(...$$("h3 .dot, h3 .name", video.element).map((part) => part.cloneNode(true)));
      const set = (on) => { video.element.hidden = !on; chip.setAttribute("aria-pressed", String(on)); };
      set(video.element.dataset.pick === "1");
      chip.addEventListener("click", () => { set(video.element.hidden); showTicks(); load(); draw(); });
      return { chip, set };
    });
    const all = make("button", { type: "button", textContent: "all rows" });
    all.addEventListener("click", () => { picks.forEach((pick) => pick.set(true)); showTicks(); load(); draw(); });
    chips.append(...picks.map((pick) => pick.chip), ...(videos.some((video) => video.element.dataset.pick !== "1") ? [all] : []));
    chips.hidden = false;
  }
  function load() {
    for (const video of videos) {
      if (video.image || video.element.hidden || !root.open) continue;
      video.image = new Image();
      if (!video.source) continue;
      video.image.addEventListener("load", () => {
        const canvas = make("canvas", { width: video.width, height: video.height });
        canvas.setAttribute("role", "img");
        canvas.setAttribute("aria-label", `Video of ${video.element.dataset.name}`);
        $(".player", video.element).replaceChildren(canvas);
        video.context = canvas.getContext("2d");
        video.ready = true;
        draw();
      });
      video.image.src = video.source;
    }
  }
  videos.forEach((video) => (video.cursor.hidden = false));
  transport.hidden = false;
  showTicks();
  root.addEventListener("toggle", () => { if (!root.open) setPlaying(false); load(); });
  root.addEventListener("keydown", (event) => {
    if (event.key === " " && event.target.tagName === "INPUT") { event.preventDefault(); setPlaying(!playing); }
  });
  load();
  draw();
}
$$(".scene").forEach(scene);
