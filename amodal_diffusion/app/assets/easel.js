// The drawing board: paints the visible part of objects over the frames. All paint stays in the browser until
// "Use what is painted" asks for it with amodalPaint(), or Complete with amodalNewPaint().
// Python writes <div class="amodal-easel" data-clip="{...}">; see easel() in views.py for the keys.
(() => {
  const SENT = 3.9 * 2 ** 20;  // bytes of one event that the server takes
  const pages = new WeakMap();

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
        <label>Paint <input class="opacity" type="range" min="15" max="100" value="55" aria-label="opacity of the paint"></label>
        <label><input class="onion" type="checkbox"> Onion skin</label></div>
      <div class="amodal-board"><img alt="frame to paint" draggable="false"><img class="skin" alt="" draggable="false" hidden>
        <canvas class="skin" width="${width}" height="${height}" hidden></canvas>
        <canvas class="paint" width="${width}" height="${height}"></canvas></div>
      <div class="amodal-tools"><button type="button" class="nothing">Nothing is visible in this frame</button>
        <button type="button" class="clear">Clear this frame</button></div>
      <p class="painted" id="painted"></p>`;
    const find = (selector) => root.querySelector(selector);
    const [picture, skin] = root.querySelectorAll("img"), [ghost, canvas] = root.querySelectorAll("canvas");
    const pen = canvas.getContext("2d", { willReadFrequently: true }), at = find(".at");
    const state = { frame: 0, color: 0, erase: false, paint: new Map(), past: [], from: null, before: null };  // paint: ImageData, or null: nothing visible

    const url = (frame) => clip.pictures + String(frame).padStart(5, "0") + ".jpg";
    const isEmpty = (pixels) => !new Uint32Array(pixels.data.buffer).some((pixel) => pixel >>> 24 > 127);

    // Take what is on the canvas for the paint of the frame.
    function keep() {
      const pixels = pen.getImageData(0, 0, width, height);
      if (!isEmpty(pixels)) state.paint.set(state.frame, pixels);
      else if (state.paint.get(state.frame)) state.paint.delete(state.frame);
    }

    // The masks that the page shows; where they are others than at the last stroke, they are newer than the paint.
    const masks = () => JSON.parse(document.querySelector("#viewer [data-scene]")?.dataset.scene ?? "{}").masks ?? "";

    function say(text) {
      const painted = [...state.paint.keys()].sort((a, b) => a - b);
      find(".number").textContent = `frame ${state.frame} of ${last}`;
      find(".painted").textContent = text ?? (painted.length
        ? `Painted frames: ${painted.join(", ")}. Press "Use what is painted" to see the masks${masks() ? ", or Complete" : ""}.`
        : "No frame is painted.");
    }

    function show() {
      picture.src = url(state.frame);
      pen.clearRect(0, 0, width, height);
      const pixels = state.paint.get(state.frame);
      if (pixels) pen.putImageData(pixels, 0, 0);
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
    at.addEventListener("input", () => { end(); state.frame = Number(at.value); show(); });
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
      }
      if (button.matches(".nothing, .clear")) {
        remember();
        if (button.matches(".nothing")) state.paint.set(state.frame, null);
        else state.paint.delete(state.frame);
        show();
      }
    });

    // Paint of all frames: PNG with hard edges by frame; "" where nothing is visible.
    pages.set(root, (onlyNew) => {
      if (onlyNew && (state.before !== masks() || !(state.paint.size || state.from))) return "";
      if (state.from) keep();  // a button pressed by the keyboard in the middle of a stroke
      const hard = document.createElement("canvas"), brush = hard.getContext("2d"), sent = {};
      [hard.width, hard.height] = [width, height];
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
  }

  window.amodalPaint = (onlyNew = false) => {
    const root = document.querySelector(".amodal-easel[data-ready]");
    return root ? pages.get(root)(onlyNew) : onlyNew ? "" : "{}";
  };
  window.amodalNewPaint = () => window.amodalPaint(true);
  function adopt() {
    document.querySelectorAll(".amodal-easel:not([data-ready])").forEach((root) => {
      root.dataset.ready = "";
      build(root);
    });
  }
  new MutationObserver(adopt).observe(document, { childList: true, subtree: true });
})();
