// The view as a file: a picture of it, or a short video of one slow turn.

import { saveBlob } from "./downloads.js";

const TURN_SECONDS = 8, FRAMES_A_SECOND = 30, BITS_A_SECOND = 8e6;
const KINDS = ["video/webm;codecs=vp9", "video/webm;codecs=vp8", "video/webm", "video/mp4"];

export const canRecord = () => Boolean(window.MediaRecorder && HTMLCanvasElement.prototype.captureStream && kind());

const kind = () => KINDS.find(one => MediaRecorder.isTypeSupported(one));

export function savePicture(viewer) {
  viewer.canvas.toBlob(blob => saveBlob(blob, "view.png"), "image/png");
}

// Turns once around the scene meanwhile. `onSecond` is told the seconds that are left.
export async function saveVideo(viewer, onSecond) {
  const recorder = new MediaRecorder(viewer.canvas.captureStream(FRAMES_A_SECOND), { mimeType: kind(), videoBitsPerSecond: BITS_A_SECOND });
  const pieces = [];
  recorder.addEventListener("dataavailable", event => pieces.push(event.data));
  const stopped = new Promise(resolve => recorder.addEventListener("stop", resolve));
  const { turning, controls } = viewer, speed = controls.autoRotateSpeed;
  controls.autoRotateSpeed = 60 / TURN_SECONDS;
  viewer.turning = true;
  recorder.start();
  for (let left = TURN_SECONDS; left > 0; left--) {
    onSecond(left);
    await new Promise(resolve => setTimeout(resolve, 1000));
  }
  recorder.stop();
  controls.autoRotateSpeed = speed;
  viewer.turning = turning;
  await stopped;
  saveBlob(new Blob(pieces, { type: recorder.mimeType }), recorder.mimeType.includes("mp4") ? "view.mp4" : "view.webm");
}
