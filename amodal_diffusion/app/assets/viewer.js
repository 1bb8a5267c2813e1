// One slider moves the pictures of all panes of a viewer to the same frame.
function amodalFrame(slider) {
  const viewer = slider.closest(".amodal-viewer"), frame = Number(slider.value);
  viewer.querySelectorAll("img[data-folder]").forEach((picture) => {
    picture.src = picture.dataset.folder + String(frame).padStart(5, "0") + ".jpg";
  });
  viewer.querySelector("output").textContent = "frame " + frame + " of " + slider.max;
}
function amodalPlay(button) {
  const viewer = button.closest(".amodal-viewer"), slider = viewer.querySelector("input[type=range]");
  if (button.dataset.timer) {
    clearInterval(Number(button.dataset.timer));
    delete button.dataset.timer;
    button.textContent = "Play";
    return;
  }
  button.textContent = "Pause";
  button.dataset.timer = setInterval(() => {
    if (!button.isConnected) return clearInterval(Number(button.dataset.timer));
    slider.value = (Number(slider.value) + 1) % (Number(slider.max) + 1);
    amodalFrame(slider);
  }, 1000 / Number(viewer.dataset.fps));
}
