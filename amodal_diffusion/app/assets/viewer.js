// The viewer of a clip and its results: one canvas, on which the browser composes the frame, masks and layers.
// Python writes <div class="amodal-viewer" data-scene="{...}">; see Scene in views.py for the keys.
(() => {
  const VIEWS = { frame: "Frame", visible: "Visible", amodal: "Amodal", completed: "Completed", overlay: "Overlay", uncertain: "Uncertain" };
  const KEPT = 240, WIDEST = 1600;

  // Images by URL, the oldest forgotten first.
  const images = new Map();
  function load(url) {
    if (!images.has(url)) {
      images.set(url, new Promise((resolve, reject) => {
        const image = new Image();
        image.onload = () => resolve(image);
        image.onerror = () => { images.delete(url); reject(new Error(url)); };
        image.src = url;
      }));
      if (images.size > KEPT) images.delete(images.keys().next().value);
    }
    return images.get(url);
  }

  // The frame that the viewer, the drawing board and the picture to click on show; whichever is moved moves the others.
  const followers = new Set();
  const clickSlider = () => document.querySelector("#click-frame input[type=range]");
  const moveClicks = (slider) => {  // Gradio's own slider, which asks the server for the picture
    const frame = window.amodalFrame.now;
    if (!slider || frame === null || Number(slider.value) === frame) return;
    slider.value = frame;
    slider.dispatchEvent(new Event("input", { bubbles: true }));
  };
  window.amodalFrame = {
    now: null,
    announce(frame, from) {
      if (frame === this.now) return;
      this.now = frame;
      for (const follower of followers) {
        const { root, slider, draw } = follower;
        if (!root.isConnected) followers.delete(follower);
        else if (slider !== from && Number(slider.value) !== frame) {
          slider.value = frame;
          draw();
        }
      }
      const slider = clickSlider();
      if (slider !== from) moveClicks(slider);
    },
    follow(root, slider, draw) { followers.add({ root, slider, draw }); },
  };
  let known = null;  // Gradio makes the slider when its tab is first opened, and then sets it to 0
  new MutationObserver(() => {
    const slider = clickSlider();
    if (slider !== known) setTimeout(() => moveClicks(slider), 500);
    known = slider;
  }).observe(document, { childList: true, subtree: true });
  document.addEventListener("input", (event) => {
    if (event.target === clickSlider()) window.amodalFrame.announce(Number(event.target.value), event.target);
  });

  const plain = (text) => text.replace(/[&<>"]/g, (sign) => `&#${sign.charCodeAt(0)};`);
  const name = (folder, frame, ending) => folder + String(frame).padStart(5, "0") + ending;

  function surface(width, height) {
    const canvas = document.createElement("canvas");
    [canvas.width, canvas.height] = [width, height];
    return canvas;
  }

  // White pixels of a mask in a color; with another mask, stripes over the pixels that this one alone has.
  function tint(mask, color, alpha, width, height, without) {
    const canvas = surface(width, height), pen = canvas.getContext("2d", { willReadFrequently: true });
    const read = (image) => {
      pen.clearRect(0, 0, width, height);
      pen.drawImage(image, 0, 0, width, height);
      return pen.getImageData(0, 0, width, height);
    };
    const other = without ? read(without).data : null, found = read(mask), data = found.data;
    for (let at = 0; at < data.length; at += 4) {
      const inside = data[at] > 127 && !(other && other[at] > 127);
      const pixel = at / 4, striped = other && ((pixel % width) + Math.floor(pixel / width)) % 10 < 4;
      [data[at], data[at + 1], data[at + 2]] = color;
      data[at + 3] = inside && !striped ? alpha : 0;
    }
    pen.putImageData(found, 0, 0);
    return canvas;
  }

  function checkerboard(pen, width, height) {
    const side = Math.max(8, Math.round(width / 40));
    for (let y = 0; y * side < height; y++)
      for (let x = 0; x * side < width; x++) {
        pen.fillStyle = (x + y) % 2 ? "#d0d0d0" : "#ececec";
        pen.fillRect(x * side, y * side, side, side);
      }
  }

  function build(root) {
    const scene = JSON.parse(root.dataset.scene), last = scene.frames - 1;
    const done = scene.objects.length > 0 && scene.objects[0].amodal !== null;
    const views = ["frame", ...(scene.objects.length ? ["visible"] : []), ...(done ? ["amodal", "completed", "overlay"] : []),
      ...(scene.objects.some((object) => object.uncertain) ? ["uncertain"] : [])];
    const scale = Math.min(1, WIDEST / Math.max(scene.width, scene.height));
    const width = Math.round(scene.width * scale), height = Math.round(scene.height * scale);
    const objects = scene.objects.length < 2 ? "" : `<label>Object <select class="object"><option value="">all</option>${
      scene.objects.map((object, index) => `<option value="${index}">${plain(object.name)}</option>`).join("")}</select></label>`;
    root.innerHTML = `
      <div class="amodal-views" role="radiogroup" aria-label="view">${views.map((view) =>
        `<button type="button" role="radio" data-view="${view}">${VIEWS[view]}</button>`).join("")}</div>
      <div class="amodal-stage"><canvas width="${width}" height="${height}"></canvas></div>
      <div class="amodal-scrub"><button type="button" class="play">Play</button>
        <input class="scrub" type="range" aria-label="frame" min="0" max="${last}" value="${Math.min(last, amodalFrame.now ?? Math.floor(scene.frames / 2))}">
        <output></output></div>
      <div class="amodal-tools">
        <label>Over <select class="behind"><option value="frame">the frame</option><option value="board">a checkerboard</option>
          <option value="color">a color</option></select></label>
        <input class="color" type="color" value="#00b140" aria-label="color behind">${objects}
        <label><input class="compare" type="checkbox"> Before / after</label>
        <span class="zoom"><button type="button" data-zoom="0.8" aria-label="zoom out">−</button>
          <button type="button" data-zoom="0" aria-label="fit">Fit</button>
          <button type="button" data-zoom="1.25" aria-label="zoom in">+</button></span></div>
      <input class="split" type="range" aria-label="before and after" min="0" max="100" value="50" hidden>`;
    const find = (selector) => root.querySelector(selector);
    const canvas = find("canvas"), pen = canvas.getContext("2d"), stage = find(".amodal-stage"), slider = find(".scrub");
    const state = { view: done ? "completed" : scene.objects.length ? "visible" : "frame", zoom: 1, x: 0, y: 0, drawn: 0 };
    find(".behind").value = done ? "board" : "frame";
    if (!last) find(".amodal-scrub").hidden = true;

    async function frameOnto(target, frame) {
      const picture = await load(name(scene.pictures, frame, ".jpg"));
      return () => target.drawImage(picture, scene.left * scale, scene.top * scale, scene.frame_width * scale, scene.frame_height * scale);
    }

    async function draw() {
      const turn = ++state.drawn, frame = Number(slider.value), view = state.view, behind = find(".behind").value;
      const chosen = find(".object")?.value ?? "", shown = scene.objects.filter((_, index) => chosen === "" || Number(chosen) === index);
      const fresh = surface(width, height), brush = fresh.getContext("2d"), parts = [];
      try {
        const drawFrame = await frameOnto(brush, frame);
        for (const object of shown) {
          const visible = view === "frame" ? null : await load(name(object.visible, frame, ".png"));
          const amodal = ["amodal", "overlay"].includes(view) ? await load(name(object.amodal, frame, ".png")) : null;
          const layer = ["completed", "overlay"].includes(view) && object.completed ? await load(name(object.completed, frame, ".png")) : null;
          const uncertain = view === "uncertain" && object.uncertain ? await load(name(object.uncertain, frame, ".jpg")) : null;
          parts.push({ visible, amodal, layer, uncertain, color: object.color });
        }
        if (turn !== state.drawn) return;
        if (behind === "frame" || view === "frame") {
          brush.fillRect(0, 0, width, height);
          drawFrame();
        } else if (behind === "board") checkerboard(brush, width, height);
        else {
          brush.fillStyle = find(".color").value;
          brush.fillRect(0, 0, width, height);
        }
        for (const part of parts) {
          if (part.uncertain) brush.drawImage(part.uncertain, 0, 0, width, height);
          if (part.layer) brush.drawImage(part.layer, 0, 0, width, height);
          if (part.visible && ["visible", "amodal"].includes(view)) brush.drawImage(tint(part.visible, part.color, 130, width, height), 0, 0);
          if (part.amodal) brush.drawImage(tint(part.amodal, part.color, 230, width, height, part.visible), 0, 0);
        }
        if (find(".compare").checked) {
          const middle = Math.round(width * Number(find(".split").value) / 100);
          brush.save();
          brush.beginPath();
          brush.rect(0, 0, middle, height);
          brush.clip();
          brush.fillStyle = "black";
          brush.fillRect(0, 0, width, height);
          drawFrame();
          brush.restore();
          brush.fillStyle = "white";
          brush.fillRect(middle - 1, 0, 2, height);
        }
        pen.clearRect(0, 0, width, height);
        pen.drawImage(fresh, 0, 0);
        canvas.dataset.shown = `${view} ${frame}`;
      } catch (error) {
        canvas.dataset.shown = `missing ${error.message}`;  // the next frame may be there
      }
      find("output").textContent = `frame ${frame} of ${last}`;
    }

    function place() {
      const width = stage.clientWidth * (state.zoom - 1), height = stage.clientHeight * (state.zoom - 1);
      state.x = Math.min(0, Math.max(-width, state.x));
      state.y = Math.min(0, Math.max(-height, state.y));
      canvas.style.transform = `translate(${state.x}px, ${state.y}px) scale(${state.zoom})`;
      stage.classList.toggle("zoomed", state.zoom > 1);
    }

    function zoom(factor, x, y) {
      const next = factor ? Math.min(12, Math.max(1, state.zoom * factor)) : 1, ratio = next / state.zoom;
      [state.x, state.y, state.zoom] = [x - (x - state.x) * ratio, y - (y - state.y) * ratio, next];
      place();
    }

    function choose(view) {
      state.view = view;
      root.querySelectorAll("[data-view]").forEach((button) => button.setAttribute("aria-checked", button.dataset.view === view));
      draw();
    }

    function play() {
      const button = find(".play");
      if (state.timer) clearInterval(state.timer);
      state.timer = state.timer ? null : setInterval(() => {
        if (!root.isConnected) return clearInterval(state.timer);
        slider.value = (Number(slider.value) + 1) % scene.frames;
        draw();
      }, 1000 / scene.fps);
      button.textContent = state.timer ? "Pause" : "Play";
      if (!state.timer) amodalFrame.announce(Number(slider.value), slider);
    }

    root.addEventListener("click", (event) => {
      const { view, zoom: factor } = event.target.dataset;
      if (view) choose(view);
      if (factor !== undefined) zoom(Number(factor), stage.clientWidth / 2, stage.clientHeight / 2);
    });
    find(".play").addEventListener("click", play);
    root.addEventListener("input", (event) => {
      if (event.target.matches(".color")) find(".behind").value = "color";
      if (event.target.matches(".compare")) find(".split").hidden = !event.target.checked;
      draw();
      if (event.target === slider) amodalFrame.announce(Number(slider.value), slider);
    });
    amodalFrame.follow(root, slider, draw);
    stage.addEventListener("wheel", (event) => {
      if (!event.ctrlKey && !event.shiftKey && state.zoom === 1) return;  // the page scrolls
      event.preventDefault();
      const box = stage.getBoundingClientRect();
      zoom(event.deltaY < 0 ? 1.15 : 1 / 1.15, event.clientX - box.left, event.clientY - box.top);
    }, { passive: false });
    stage.addEventListener("pointermove", (event) => {
      if (!(event.buttons & 1) || state.zoom === 1) return;
      [state.x, state.y] = [state.x + event.movementX, state.y + event.movementY];
      place();
    });
    choose(state.view);
  }

  // Gradio puts new HTML into the page whenever an action ends. Uploads offer amodalFileTypes alone, see server.py.
  function adopt() {
    document.querySelectorAll(".amodal-viewer:not([data-ready])").forEach((root) => {
      root.dataset.ready = "";
      build(root);
    });
    document.querySelectorAll('[aria-label="common.upload"]').forEach((button) => {  // a text that Gradio lacks
      button.ariaLabel = button.title = "Choose other files";
    });
    document.querySelectorAll("input[type=file]").forEach((box) => { if (box.accept !== amodalFileTypes) box.accept = amodalFileTypes; });
  }
  new MutationObserver(adopt).observe(document, { childList: true, subtree: true });
})();
