// The view of a scene: points, cameras and distances, turned upright, seen from anywhere or from one of the cameras.
// While it moves, so many points are drawn as this machine draws smoothly; a moment later all that are chosen.

import {
  BufferAttribute, BufferGeometry, Color, Group, Matrix4, PerspectiveCamera, Points, Quaternion, Raycaster, Scene, ShaderMaterial,
  Vector2, Vector3, WebGLRenderer, OrbitControls,
} from "./three.min.js";
import { Frustums } from "./frustums.js";
import { boxOf, fit, readCamera, upOf, upright } from "./pose.js";
import { Ruler } from "./ruler.js";

const VERTEX = `
  attribute vec3 tint;
  uniform float size, scale;
  varying vec3 shown;
  void main() {
    shown = tint;
    vec4 seen = modelViewMatrix * vec4(position, 1.0);
    gl_Position = projectionMatrix * seen;
    gl_PointSize = clamp(size * scale / max(-seen.z, 1e-6), 1.0, 24.0);
  }`;
const FRAGMENT = `
  varying vec3 shown;
  void main() {
    if (length(gl_PointCoord - 0.5) > 0.5) discard;
    gl_FragColor = vec4(shown, 1.0);  // sRGB as it is in the picture
  }`;
const SIGHT = 0.06;  // length of a camera's wire frame, as a share of the scene's size
const FIELD = 50;  // degrees, of the view's height
const UP = new Vector3(0, 1, 0);
const SETTLED_MS = 180;
const SMOOTH_MS = 40, ROOM_MS = 22;  // a frame that takes longer, or less, changes how many points are drawn
const LEAST_POINTS = 20000;
const REACH_PIXELS = 9;  // around the pointer

export class Viewer extends EventTarget {
  constructor(canvas) {
    super();
    this.canvas = canvas;
    this.renderer = new WebGLRenderer({ canvas, preserveDrawingBuffer: true });
    this.renderer.setPixelRatio(Math.min(devicePixelRatio, 2));
    this.camera = new PerspectiveCamera(FIELD, 1, 0.01, 1000);
    this.pinhole = new PerspectiveCamera();  // that of a picture
    this.looking = null;  // the number of the picture whose camera is looked from
    this.controls = new OrbitControls(this.camera, canvas);
    this.controls.enableDamping = true;
    this.controls.listenToKeyEvents(canvas);
    this.controls.autoRotateSpeed = 1.5;
    this.controls.addEventListener("change", () => this.moved());
    this.controls.addEventListener("start", () => this.leave());
    this.scene = new Scene();
    this.world = new Group();
    this.scene.add(this.world);
    this.uniforms = { size: { value: 1 }, scale: { value: 1 } };
    this.pointSize = 1;
    this.smooth = 150000;  // points drawn while the view moves
    this.numbers = new Uint32Array();
    canvas.addEventListener("pointerdown", event => { this.pressed = [event.clientX, event.clientY]; });
    canvas.addEventListener("pointerup", event => this.clicked(event));
    canvas.addEventListener("pointermove", event => this.hovered(event));
    canvas.addEventListener("pointerleave", () => this.emit("hover", null));
    canvas.addEventListener("keydown", event => { if (event.key.startsWith("Arrow")) this.leave(); });
    new ResizeObserver(() => this.resize()).observe(canvas);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.draw());
  }

  emit(type, detail) { this.dispatchEvent(new CustomEvent(type, { detail })); }

  show(cloud, pictures) {
    this.clear();
    this.cloud = cloud;
    this.cameras = pictures.map(readCamera);
    this.world.quaternion.copy(upright(upOf(this.cameras)));
    this.world.updateMatrixWorld(true);
    const geometry = new BufferGeometry();
    geometry.setAttribute("position", new BufferAttribute(cloud.position, 3));
    geometry.setAttribute("tint", new BufferAttribute(cloud.color, 3, true));
    const material = new ShaderMaterial({ uniforms: this.uniforms, vertexShader: VERTEX, fragmentShader: FRAGMENT });
    this.points = new Points(geometry, material);
    this.points.frustumCulled = false;
    this.fresh = true;
    this.world.add(this.points);
  }

  clear() {
    for (const old of [...this.world.children]) {
      old.geometry?.dispose();
      old.material?.dispose();
      old.dispose?.();
      this.world.remove(old);
    }
    this.points = null;
    this.looking = null;
  }

  // Shows these points of the cloud, in an order whose beginnings are even samples. The first choice decides where to look
  // from, and how large cameras are drawn.
  choose(numbers) {
    this.numbers = numbers;
    this.points.geometry.setIndex(new BufferAttribute(numbers.length ? numbers : new Uint32Array(1), 1));
    if (this.fresh) {
      this.fresh = false;
      const all = Uint32Array.from({ length: this.cloud.count }, (_, index) => index);
      this.box = boxOf(this.cloud.position, numbers.length ? numbers : all);
      this.frustums = new Frustums(this.cameras, SIGHT * this.box.extent);
      this.ruler = new Ruler(0.012 * this.box.extent);
      this.world.add(this.frustums, this.ruler);
      this.resize();
      this.reset();
    }
    this.draw();
  }

  // Colours by point, uint8 [N, 3].
  paint(colors) {
    this.points.geometry.setAttribute("tint", new BufferAttribute(colors, 3, true));
    this.draw();
  }

  // From behind and above the cameras, with all of the scene in view whatever the shape of the window.
  reset() {
    this.leave();
    const middle = this.world.localToWorld(this.box.middle.clone());
    const eye = this.cameras.reduce((sum, one) => sum.add(one.centre), new Vector3()).divideScalar(this.cameras.length);
    const towards = this.world.localToWorld(eye).sub(middle);
    if (Math.hypot(towards.x, towards.z) < 0.05 * this.box.extent) {  // the cameras stand around it
      towards.copy(this.cameras[0].forward).negate().applyQuaternion(this.world.quaternion);
    }
    const flat = Math.max(Math.hypot(towards.x, towards.z), 1e-6);
    towards.y = Math.min(Math.max(towards.y, 0.3 * flat), 1.2 * flat);
    towards.normalize();
    const high = Math.tan((FIELD * Math.PI) / 360);
    const inside = this.box.inside.map(point => this.world.localToWorld(point.clone()));
    const eyes = this.cameras.map(one => this.world.localToWorld(one.centre.clone())).filter(one => one.distanceTo(middle) < 2 * this.box.extent);
    const { target, distance } = fit(inside, eyes, middle, towards, high * this.camera.aspect, high);
    const away = 1.1 * distance + SIGHT * this.box.extent;
    this.first = { target, distance: away, yaw: Math.atan2(towards.x, towards.z) };
    this.camera.position.copy(target).addScaledVector(towards, away);
    this.aim(target);
  }

  aim(target) {
    this.camera.near = this.box.extent / 500;
    this.camera.far = 50 * this.box.extent;
    this.camera.updateProjectionMatrix();
    this.controls.target.copy(target);
    this.controls.update();
    this.draw();
  }

  // The very frame of a picture: its camera, its field of view, its middle where its lens has it.
  lookFrom(index) {
    this.turning = false;
    this.looking = index;
    const { centre, right, down, forward } = this.cameras[index];
    const axes = new Matrix4().makeBasis(right, down.clone().negate(), forward.clone().negate());
    this.pinhole.position.copy(this.world.localToWorld(centre.clone()));
    this.pinhole.quaternion.copy(new Quaternion().setFromRotationMatrix(axes).premultiply(this.world.quaternion));
    this.pinhole.updateMatrixWorld();
    this.resize();
    this.emit("look", index);
  }

  // Where the looked-at picture lies on the canvas, in CSS pixels.
  get frame() {
    const { clientWidth, clientHeight } = this.canvas, { width, height } = this.cameras[this.looking].size;
    const scale = Math.min(clientWidth / width, clientHeight / height);
    return { left: (clientWidth - scale * width) / 2, top: (clientHeight - scale * height) / 2, width: scale * width, height: scale * height, scale };
  }

  // From a picture's camera back to a view that turns, from the same place.
  leave() {
    if (this.looking === null) return;
    const { centre, forward } = this.cameras[this.looking];
    const depth = Math.max(forward.dot(this.box.middle.clone().sub(centre)), 0.2 * this.box.extent);
    this.looking = null;
    this.camera.position.copy(this.world.localToWorld(centre.clone()));
    this.resize();
    this.aim(this.world.localToWorld(centre.clone().addScaledVector(forward, depth)));
    this.emit("look", null);
  }

  // Where the view looks from and to, as seen from the first look: the same for scenes of any scale and direction.
  get pose() {
    const { target, distance, yaw } = this.first;
    return [this.camera.position, this.controls.target].map(place => place.clone().sub(target).divideScalar(distance).applyAxisAngle(UP, -yaw));
  }

  set pose(places) {
    const { target, distance, yaw } = this.first;
    const [position, towards] = places.map(place => place.clone().applyAxisAngle(UP, yaw).multiplyScalar(distance).add(target));
    this.camera.position.copy(position);
    this.aim(towards);
    this.moved();
  }

  get current() { return this.looking === null ? this.camera : this.pinhole; }

  // In steps of about half the distance between neighbouring points.
  set size(value) { this.pointSize = value; this.draw(); }
  set camerasShown(shown) { this.frustums.visible = shown; this.draw(); }
  set turning(on) { this.controls.autoRotate = on; if (on) this.leave(); this.draw(); }
  get turning() { return this.controls.autoRotate; }

  select(index) {
    this.frustums.select(index);
    this.draw();
  }

  clicked(event) {
    const moved = this.pressed && Math.hypot(event.clientX - this.pressed[0], event.clientY - this.pressed[1]) > 5;
    if (moved || event.button !== 0) return;
    if (this.measuring) this.mark(this.place(event));
    else {
      const index = this.cameraAt(this.place(event));
      if (index !== null) this.emit("select", index);
    }
  }

  // Takes the point of the scene at a place of the canvas (-1 to 1; by default its middle) for a distance.
  mark(at = new Vector2()) {
    const point = this.pick(at);
    if (!point) { this.emit("miss"); return; }
    const distance = this.ruler.mark(point);
    this.draw();
    this.emit("mark", distance);
  }

  hovered(event) {
    if (event.buttons || this.measuring || !this.frustums) return;
    const index = this.cameraAt(this.place(event));
    this.canvas.classList.toggle("pointing", index !== null);
    this.emit("hover", index === null ? null : { index, x: event.offsetX, y: event.offsetY });
  }

  place(event) {
    const box = this.canvas.getBoundingClientRect();
    return new Vector2(((event.clientX - box.left) / box.width) * 2 - 1, 1 - ((event.clientY - box.top) / box.height) * 2);
  }

  cameraAt(at) {
    if (!this.frustums?.visible || this.looking !== null) return null;
    const caster = new Raycaster();
    caster.setFromCamera(at, this.current);
    return caster.intersectObjects(this.frustums.sheets)[0]?.object.userData.index ?? null;
  }

  // The chosen point near the ray through a place of the canvas, nearest to the eye.
  pick(at) {
    const caster = new Raycaster();
    caster.setFromCamera(at, this.current);
    const ray = caster.ray.clone().applyMatrix4(this.world.matrixWorld.clone().invert());
    const { x: ox, y: oy, z: oz } = ray.origin, { x: dx, y: dy, z: dz } = ray.direction;
    const { position } = this.cloud;
    const reach = (REACH_PIXELS * this.renderer.getPixelRatio()) / this.uniforms.scale.value;
    let best = -1, least = Infinity;
    for (const i of this.numbers) {
      const x = position[3 * i] - ox, y = position[3 * i + 1] - oy, z = position[3 * i + 2] - oz;
      const along = x * dx + y * dy + z * dz;
      if (along <= 0) continue;
      const off = Math.sqrt(Math.max(x * x + y * y + z * z - along * along, 0)) / along;
      if (off > reach) continue;
      const cost = along * (1 + (0.05 * off) / reach);
      if (cost < least) { least = cost; best = i; }
    }
    return best < 0 ? null : new Vector3().fromArray(position, 3 * best);
  }

  resize() {
    const { clientWidth: width, clientHeight: height } = this.canvas;
    if (!width || !height || !this.box) return;
    this.renderer.setSize(width, height, false);
    this.camera.aspect = width / height;
    this.camera.updateProjectionMatrix();
    const ratio = this.renderer.getPixelRatio();
    let focal = height / (2 * Math.tan((FIELD * Math.PI) / 360));
    if (this.looking !== null) {
      const [[fx, , cx], [, fy, cy]] = this.cameras[this.looking].intrinsic;
      const { left, top, scale } = this.frame, near = this.box.extent / 500;
      focal = fy * scale;
      const x = place => ((place - left - scale * cx) / (fx * scale)) * near, y = place => ((top + scale * cy - place) / focal) * near;
      this.pinhole.projectionMatrix.makePerspective(x(0), x(width), y(0), y(height), near, 50 * this.box.extent);
      this.pinhole.projectionMatrixInverse.copy(this.pinhole.projectionMatrix).invert();
    }
    this.uniforms.scale.value = ratio * focal;
    this.emit("resize");
    this.draw();
  }

  moved() {
    this.moving = true;
    clearTimeout(this.settling);
    this.draw();
  }

  // A moment after the last frame of a movement, however long a frame takes.
  settle() {
    clearTimeout(this.settling);
    this.settling = setTimeout(() => { this.moving = false; this.lastFrame = null; this.draw(); }, SETTLED_MS);
  }

  draw() {
    this.pending ??= requestAnimationFrame(now => {
      this.pending = null;
      if (this.points?.geometry.index) this.render(now);
    });
  }

  render(now) {
    if (this.moving) this.pace(now);
    const wanted = this.numbers.length, drawn = this.moving ? Math.min(this.smooth, wanted) : wanted;
    this.points.geometry.setDrawRange(0, drawn);
    const thinned = Math.sqrt(wanted / Math.max(drawn, 1));  // fewer points are drawn larger, so that the whole looks alike
    this.uniforms.size.value = (0.5 * this.pointSize * this.box.extent * Math.min(thinned, 2)) / Math.sqrt(this.cloud.count || 1);
    this.scene.background = new Color(getComputedStyle(this.canvas.parentElement).backgroundColor);
    this.renderer.render(this.scene, this.current);
    this.emit("drawn", { drawn, wanted });
    this.controls.update(Math.min((now - (this.rendered ?? now)) / 1000, 0.2));
    this.rendered = now;
    if (this.turning) this.moved();  // steps that are too small for the controls to speak of
    else if (this.moving) this.settle();
  }

  // How many points this machine draws smoothly, from how long the last frame took.
  pace(now) {
    const took = this.lastFrame ? now - this.lastFrame : null;
    this.lastFrame = now;
    if (took === null) return;
    if (took > SMOOTH_MS) this.smooth = Math.max(Math.floor(Math.max(SMOOTH_MS / took, 0.5) * this.smooth), LEAST_POINTS);
    else if (took < ROOM_MS && this.smooth < this.numbers.length) this.smooth = Math.floor(1.2 * this.smooth);
  }
}
