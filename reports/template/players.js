// ---- videos: one clock for all rows of a scene
function scene(root) {
  const films = $$(".film", root).map((element) => {
    const { frames, columns, width, height, seams, kinds, fps, film } = element.dataset;
    return { element, frames: Number(frames), columns: Number(columns), width: Number(width), height: Number(height), fps: Number(fps), source: film,
      seams: seams ? seams.split(",").map(Number) : [], kinds: kinds ? kinds.split(",") : [], cursor: $(".cursor", element), time: $(".time", element) };
  });
  const longest = Math.max(...films.map((film) => film.frames));
  const transport = $(".transport", root), range = $("input[type=range]", transport), at = $(".at", transport), play = $(".play", transport);
  const seams = () => [...new Set(films.filter((film) => !film.element.hidden).flatMap((film) => film.seams))].sort((a, b) => a - b);
  let frame = 0, playing = false, began = 0, from = 0;

  function draw() {
    range.value = frame;
    const joined = films.filter((film) => !film.element.hidden && film.seams.includes(frame));
    const kinds = [...new Set(joined.map((film) => film.kinds[film.seams.indexOf(frame)]).filter(Boolean))].join(", ");
    at.textContent = `frame ${frame + 1} of ${longest}${joined.length ? ` · seam${kinds && ` (${kinds})`}` : ""}`;
    for (const film of films) {
      const own = Math.min(frame, film.frames - 1);
      film.cursor.style.left = `${(100 * (own + 0.5)) / film.frames}%`;
      film.element.dataset.frame = own;
      if (film.context && film.ready) {
        const { width, height, columns } = film;
        film.context.drawImage(film.image, (own % columns) * width, Math.floor(own / columns) * height, width, height, 0, 0, width, height);
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
    const speed = Number($(".speed", transport).value) * films[0].fps;
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
  for (const film of films) {
    const seek = (event) => {
      const box = film.time.getBoundingClientRect();
      step(Math.floor(((event.clientX - box.left) / box.width) * film.frames));
    };
    film.time.addEventListener("pointerdown", seek);
    film.time.addEventListener("pointermove", (event) => event.buttons && seek(event));
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
  if (films.length > 1) {
    const picks = films.map((film) => {
      const chip = make("button", { type: "button" });
      chip.append(...$$("h3 .dot, h3 .name", film.element).map((part) => part.cloneNode(true)));
      const set = (on) => { film.element.hidden = !on; chip.setAttribute("aria-pressed", String(on)); };
      set(film.element.dataset.pick === "1");
      chip.addEventListener("click", () => { set(film.element.hidden); showTicks(); load(); draw(); });
      return { chip, set };
    });
    const all = make("button", { type: "button", textContent: "all rows" });
    all.addEventListener("click", () => { picks.forEach((pick) => pick.set(true)); showTicks(); load(); draw(); });
    chips.append(...picks.map((pick) => pick.chip), ...(films.some((film) => film.element.dataset.pick !== "1") ? [all] : []));
    chips.hidden = false;
  }
  function load() {
    for (const film of films) {
      if (film.image || film.element.hidden || !root.open) continue;
      film.image = new Image();
      if (!film.source) continue;
      film.image.addEventListener("load", () => {
        const canvas = make("canvas", { width: film.width, height: film.height });
        canvas.setAttribute("role", "img");
        canvas.setAttribute("aria-label", `Video of ${film.element.dataset.name}`);
        $(".player", film.element).replaceChildren(canvas);
        film.context = canvas.getContext("2d");
        film.ready = true;
        draw();
      });
      film.image.src = film.source;
    }
  }
  films.forEach((film) => (film.cursor.hidden = false));
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
