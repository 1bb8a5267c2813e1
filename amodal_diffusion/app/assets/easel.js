// The drawing board: paints the visible part of objects over the frames. All paint stays in the browser until
// "Use what is painted" asks for it with amodalPaint(), or Complete with amodalNewPaint(). Frames without paint show the
// masks that the page has; a stroke on them makes them paint of that frame.
// Python writes <div class="amodal-easel" data-clip="{...}">; see easel() in views.py for the keys.
(() => {
  const SENT = 3.9 * 2 ** 20;  // bytes of one event that the server takes
  const pages = new WeakMap(), refresh = new WeakMap();
  let seen = null;  // the viewer whose masks the board shows

  function build(root) {
    const clip = JSON.parse(root.dataset.clip), last = clip.frames - 1;
    const scale = Math.min(1, 1600 / Math.max(clip.width, clip.height));
    const width = Math.round(clip.width * scale), height = Math.round(clip.height * scale);
    root.innerHTML = `
      <div class="amodal-scrub"><input class="at" type="range" aria-label="frame to paint" min="0" max="${last}" value="0">
        <output class="number"></output></div>
      <div class="amodal-tools"><span class="colors" role="radiogroup" aria-label="object">${clip.colors.map((color, index) =>
        `<button type="button" role="radio" data-color="${index}" aria-label="object ${index + 1}" style="background:rgb(${color})">${index + 1}</button>`).join("")}</span>
        <button type="button" class="eraser" aria-pressed="false">Eraser</button>
        <button type="button" class="undo">Undo</button>
        <label>Brush <input class="size" type="range" min="1" max="100" value="18" aria-label="brush size"></label>
        <label>Paint opacity <input class="opacity" type="range" min="15" max="100" value="55" aria-label="opacity of the paint"></label>
        <label><input class="onion" type="checkbox"> Onion skin (neighboring frame)</label></div>
      <div class="amodal-board"><img alt="frame to paint" draggable="false"><img class="skin" alt="" draggable="false" hidden>
        <canvas class="skin" width="${width}" height="${height}" hidden></canvas>
        <canvas class="paint" width="${width}" height="${height}"></canvas></div>
      <div class="amodal-tools"><button type="button" class="nothing">Nothing is visible in this frame</button>
        <button type="button" class="clear">Clear this frame</button>
        <button type="button" class="clear-all">Clear all frames</button></div>
      <p class="painted" id="painted"></p>`;
    const find = (selector) => root.querySelector(selector);
    const [picture, skin] = root.querySelectorAll("img"), [ghost, canvas] = root.querySelectorAll("canvas");
    const pen = canvas.getContext("2d", { willReadFrequently: true }), at = find(".at");
    const state = { frame: 0, color: 0, erase: false, paint: new Map(), past: [], from: null, before: null, cleared: null, drawn: 0 };  // paint: ImageData, or null: nothing visible

    const url = (frame) => clip.pictures + String(frame).padStart(5, "0") + ".jpg";
    const isEmpty = (pixels) => !new Uint32Array(pixels.data.buffer).some((pixel) => pixel >>> 24 > 127);

    // Take what is on the canvas for the paint of the frame.
    function keep() {
      const pixels = pen.getImageData(0, 0, width, height);
      if (!isEmpty(pixels)) state.paint.set(state.frame, pixels);
      else if (shownMasks().length) state.paint.set(state.frame, null);
      else if (state.paint.get(state.frame)) state.paint.delete(state.frame);
    }

    // The masks that the page shows; where they are others than at the last stroke, they are newer than the paint.
    const scene = () => JSON.parse(document.querySelector("#viewer [data-scene]")?.dataset.scene ?? "{}");
    const masks = () => scene().masks ?? "";

    // Objects whose masks frames without paint show: none once all frames were cleared, or where colors are too few.
    function shownMasks() {
      const { masks: name, objects } = scene();
      const known = (objects ?? []).every(({ color }) => clip.colors.some((own) => String(own) === String(color)));
      return name && name !== state.cleared && known ? objects : [];
    }

    function say(text) {
      const painted = [...state.paint.keys()].sort((a, b) => a - b), loaded = shownMasks().length;
      find(".number").textContent = `frame ${state.frame} of ${last}`;
      find(".painted").textContent = text ?? (painted.length
        ? `Painted: frame${painted.length > 1 ? "s" : ""} ${painted.join(", ")}. Press "Use what is painted" to see the masks${masks() ? ", or Complete" : ""}.`
        : `No frame is painted.${loaded ? " The board shows the masks: correct them with brush and eraser." : ""}`);
    }

    async function showMasks() {
      const turn = state.drawn, fresh = document.createElement("canvas"), { masks: name, left, top, width: whole } = scene();
      [fresh.width, fresh.height] = [width, height];
      for (const { visible, color } of shownMasks()) {
        const mask = new Image();
        mask.src = `${visible}${String(state.frame).padStart(5, "0")}.png`;
        await mask.decode().catch(() => { mask.src = ""; });  // masks that were replaced meanwhile
        if (mask.naturalWidth) fresh.getContext("2d").drawImage(tinted(mask, color, mask.naturalWidth / whole, left, top), 0, 0);
      }
      if (turn !== state.drawn || name !== masks() || state.from || state.paint.has(state.frame)) return;
      pen.globalCompositeOperation = "source-over";
      pen.clearRect(0, 0, width, height);
      pen.drawImage(fresh, 0, 0);
      canvas.dataset.masks = `${name} ${state.frame}`;
    }

    // White pixels of a mask in a color, without the margins of the results, at the size of the board.
    function tinted(mask, color, ratio, left, top) {
      const part = document.createElement("canvas"), brush = part.getContext("2d");
      [part.width, part.height] = [width, height];
      brush.imageSmoothingEnabled = false;
      brush.drawImage(mask, left * ratio, top * ratio, clip.width * ratio, clip.height * ratio, 0, 0, width, height);
      const found = brush.getImageData(0, 0, width, height), data = found.data;
      for (let pixel = 0; pixel < data.length; pixel += 4) data.set([...color, data[pixel] > 127 ? 255 : 0], pixel);
      brush.putImageData(found, 0, 0);
      return part;
    }

    function show() {
      state.drawn++;
      picture.src = url(state.frame);
      pen.clearRect(0, 0, width, height);
      const pixels = state.paint.get(state.frame);
      if (pixels) pen.putImageData(pixels, 0, 0);
      else if (pixels === undefined) showMasks();
      const neighbor = state.frame > 0 ? state.frame - 1 : Math.min(1, last), onion = find(".onion").checked && last > 0;
      skin.hidden = ghost.hidden = !onion;
      if (onion) {
        skin.src = url(neighbor);
        ghost.getContext("2d").clearRect(0, 0, width, height);
        if (state.paint.get(neighbor)) ghost.getContext("2d").putImageData(state.paint.get(neighbor), 0, 0);
      }
      say();
    }

    function place(event) {
      const box = canvas.getBoundingClientRect();
      return [(event.clientX - box.left) * width / box.width, (event.clientY - box.top) * height / box.height];
    }

    function stroke(event) {
      const to = place(event), from = state.from ?? to, box = canvas.getBoundingClientRect();
      pen.globalCompositeOperation = state.erase ? "destination-out" : "source-over";
      pen.strokeStyle = `rgb(${clip.colors[state.color]})`;
      [pen.lineWidth, pen.lineCap] = [Number(find(".size").value) * width / box.width, "round"];
      pen.beginPath();
      pen.moveTo(...from);
      pen.lineTo(...to);
      pen.stroke();
      state.from = to;
    }

    function end() {
      if (!state.from) return;
      state.from = null;
      keep();
      say();
    }

    function remember() {
      state.before = masks();
      state.past.push([state.frame, pen.getImageData(0, 0, width, height), state.paint.get(state.frame)]);
      if (state.past.length > 12) state.past.shift();
    }

    canvas.addEventListener("pointerdown", (event) => {
      if (event.button !== 0) return;
      event.preventDefault();
      canvas.setPointerCapture(event.pointerId);
      remember();
      stroke(event);
    });
    canvas.addEventListener("pointermove", (event) => { if (state.from) (event.getCoalescedEvents?.() ?? [event]).forEach(stroke); });
    ["pointerup", "pointercancel", "lostpointercapture"].forEach((kind) => canvas.addEventListener(kind, end));
    at.addEventListener("input", () => {
      end();
      state.frame = Number(at.value);
      show();
      amodalFrame.announce(state.frame, at);
    });
    amodalFrame.follow(root, at, () => { end(); state.frame = Number(at.value); show(); });
    find(".onion").addEventListener("change", show);
    find(".opacity").addEventListener("input", (event) => { canvas.style.opacity = event.target.value / 100; });
    canvas.style.opacity = 0.55;

    function choose(color) {
      [state.color, state.erase] = [color ?? state.color, color === null];
      root.querySelectorAll("[data-color]").forEach((button) =>
        button.setAttribute("aria-checked", !state.erase && Number(button.dataset.color) === state.color));
      find(".eraser").setAttribute("aria-pressed", state.erase);
    }
    root.addEventListener("click", (event) => {
      const button = event.target;
      if (button.dataset.color !== undefined) choose(Number(button.dataset.color));
      if (button.matches(".eraser")) choose(state.erase ? state.color : null);
      if (button.matches(".undo") && state.past.length) {
        const [frame, pixels, before] = state.past.pop();
        state.before = masks();
        if (before === undefined) state.paint.delete(frame);
        else state.paint.set(frame, before === null ? null : pixels);
        at.value = state.frame = frame;
        show();
        amodalFrame.announce(frame, at);
      }
      if (button.matches(".nothing, .clear")) {
        remember();
        if (button.matches(".nothing") || shownMasks().length) state.paint.set(state.frame, null);
        else state.paint.delete(state.frame);
        show();
      }
      if (button.matches(".clear-all")) {
        state.past = [];
        state.paint.clear();
        state.cleared = masks();
        show();
      }
    });

    // Paint of all frames: PNG with hard edges by frame; "" where nothing is visible.
    pages.set(root, (onlyNew) => {
      if (onlyNew && (state.before !== masks() || !(state.paint.size || state.from))) return "";
      if (state.from) keep();  // a button pressed by the keyboard in the middle of a stroke
      const hard = document.createElement("canvas"), brush = hard.getContext("2d"), sent = {};
      [hard.width, hard.height] = [width, height];
      if (shownMasks().length) sent.masks = masks();
      for (const [frame, pixels] of state.paint) {
        if (pixels) {
          const copy = new ImageData(new Uint8ClampedArray(pixels.data), width, height);
          for (let alpha = 3; alpha < copy.data.length; alpha += 4) copy.data[alpha] = copy.data[alpha] > 127 ? 255 : 0;
          brush.putImageData(copy, 0, 0);
        }
        sent[frame] = pixels ? hard.toDataURL("image/png") : "";
      }
      const text = JSON.stringify(sent);
      if (text.length > SENT) {
        say(`${state.paint.size} painted frames are more than can be sent at once; clear some: frames between are filled in.`);
        throw new Error("too much paint");
      }
      return text;
    });
    choose(0);
    show();
    refresh.set(root, () => { if (!state.from) show(); });
  }

  window.amodalPaint = (onlyNew = false) => {
    const root = document.querySelector(".amodal-easel[data-ready]");
    return root ? pages.get(root)(onlyNew) : onlyNew ? "" : "{}";
  };
  window.amodalNewPaint = () => window.amodalPaint(true);
  function adopt() {
    document.querySelectorAll(".amodal-easel:not([data-ready])").forEach((root) => {
      root.dataset.ready = "";
      amodalFrame.now = null;  // of an earlier clip
      build(root);
    });
    const viewer = document.querySelector("#viewer [data-scene]");
    if (viewer !== seen) {
      seen = viewer;
      document.querySelectorAll(".amodal-easel").forEach((root) => refresh.get(root)?.());
    }
  }
  new MutationObserver(adopt).observe(document, { childList: true, subtree: true });
})();
