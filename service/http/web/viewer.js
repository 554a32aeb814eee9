// The point cloud with its cameras. World axes are OpenCV's (y down, z forward); one group turns them upright.

import {
  BufferAttribute, BufferGeometry, Color, Group, LineBasicMaterial, LineSegments, PerspectiveCamera, Points, Raycaster,
  Scene, ShaderMaterial, Vector2, Vector3, WebGLRenderer, OrbitControls,
} from "./three.min.js";

const VERTEX = `
  attribute vec3 tint;
  attribute float rank;
  uniform float size, threshold, scale;
  varying vec3 shown;
  void main() {
    shown = tint;
    vec4 seen = modelViewMatrix * vec4(position, 1.0);
    gl_Position = rank < threshold ? vec4(2.0, 2.0, 2.0, 1.0) : projectionMatrix * seen;
    gl_PointSize = clamp(size * scale / max(-seen.z, 1e-6), 1.0, 24.0);
  }`;
const FRAGMENT = `
  varying vec3 shown;
  void main() {
    if (length(gl_PointCoord - 0.5) > 0.5) discard;
    gl_FragColor = vec4(shown, 1.0);  // sRGB as it is in the picture
  }`;

export class Viewer {
  constructor(canvas, onMeasure) {
    this.canvas = canvas;
    this.onMeasure = onMeasure;
    this.renderer = new WebGLRenderer({ canvas, antialias: true, preserveDrawingBuffer: true });
    this.renderer.setPixelRatio(Math.min(devicePixelRatio, 2));
    this.camera = new PerspectiveCamera(55, 1, 0.01, 1000);
    this.controls = new OrbitControls(this.camera, canvas);
    this.controls.enableDamping = true;
    this.controls.listenToKeyEvents(canvas);
    this.controls.addEventListener("change", () => this.draw());
    this.scene = new Scene();
    this.world = new Group();
    this.world.rotation.x = Math.PI;
    this.scene.add(this.world);
    this.measuring = false;
    this.ends = [];
    this.uniforms = { size: { value: 1 }, threshold: { value: 0.25 }, scale: { value: 1 } };
    canvas.addEventListener("pointerdown", event => { this.pressed = [event.clientX, event.clientY]; });
    canvas.addEventListener("pointerup", event => this.clicked(event));
    new ResizeObserver(() => this.resize()).observe(canvas);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.draw());
  }

  show(cloud, pictures) {
    for (const old of [...this.world.children]) {
      old.geometry.dispose();
      this.world.remove(old);
    }
    this.cloud = cloud;
    const geometry = new BufferGeometry();
    geometry.setAttribute("position", new BufferAttribute(cloud.position, 3));
    geometry.setAttribute("tint", new BufferAttribute(cloud.color, 3, true));
    geometry.setAttribute("rank", new BufferAttribute(cloud.rank, 1));
    const material = new ShaderMaterial({ uniforms: this.uniforms, vertexShader: VERTEX, fragmentShader: FRAGMENT });
    this.points = new Points(geometry, material);
    this.points.frustumCulled = false;
    this.measureBox();
    this.cameras = pictures.map(readCamera);
    this.frustums = new LineSegments(frustumGeometry(this.cameras, 0.06 * this.extent), new LineBasicMaterial({ vertexColors: true }));
    this.frustums.frustumCulled = false;
    this.ruler = new LineSegments(new BufferGeometry(), new LineBasicMaterial({ color: 0xff3b6b, depthTest: false }));
    this.ruler.renderOrder = 1;
    this.ruler.frustumCulled = false;
    this.world.add(this.points, this.frustums, this.ruler);
    this.clearMeasure();
    this.resize();
    this.reset();
  }

  // The middle and size of most of the scene: a few stray points must not shrink the rest to a dot.
  measureBox() {
    const { position, rank, count } = this.cloud;
    const axes = [[], [], []];
    const step = Math.max(1, Math.floor(count / 20000));
    for (let i = 0; i < count; i += step) {
      if (rank[i] >= 0.25) for (let axis = 0; axis < 3; axis++) axes[axis].push(position[3 * i + axis]);
    }
    const spans = axes.map(values => {
      values.sort((a, b) => a - b);
      return values.length ? [values[Math.floor(0.05 * values.length)], values[Math.floor(0.95 * values.length)]] : [-1, 1];
    });
    this.middle = new Vector3(...spans.map(([low, high]) => (low + high) / 2));
    this.extent = Math.max(Math.hypot(...spans.map(([low, high]) => high - low)), 1e-6);
  }

  // From behind and above the first cameras, with all of the scene in view.
  reset() {
    const middle = this.world.localToWorld(this.middle.clone());
    const eyes = this.cameras.map(camera => this.world.localToWorld(camera.centre.clone()));
    const eye = eyes.reduce((sum, one) => sum.add(one), new Vector3()).divideScalar(eyes.length);
    const away = eye.clone().sub(middle);
    if (away.length() < 1e-6) away.set(0, 0, 1);
    away.normalize().multiplyScalar(1.05 * this.extent);
    away.y += 0.28 * this.extent;
    this.camera.position.copy(middle).add(away);
    this.aim(middle);
  }

  lookFrom(index) {
    const camera = this.cameras[index];
    const target = camera.centre.clone().addScaledVector(camera.forward, Math.max(camera.forward.dot(this.middle.clone().sub(camera.centre)), 0.2 * this.extent));
    this.camera.position.copy(this.world.localToWorld(camera.centre.clone()));
    this.aim(this.world.localToWorld(target));
  }

  aim(target) {
    this.camera.near = this.extent / 500;
    this.camera.far = 50 * this.extent;
    this.camera.updateProjectionMatrix();
    this.controls.target.copy(target);
    this.controls.update();
    this.draw();
  }

  // In steps of about half the distance between neighbouring points.
  set size(value) { this.uniforms.size.value = (0.5 * value * this.extent) / Math.sqrt(this.cloud.count || 1); this.draw(); }
  set confidence(percentile) { this.uniforms.threshold.value = percentile / 100; this.draw(); }
  set camerasShown(shown) { this.frustums.visible = shown; this.draw(); }

  setMeasuring(on) {
    this.measuring = on;
    this.canvas.classList.toggle("measuring", on);
    this.clearMeasure();
  }

  clearMeasure() {
    this.ends = [];
    this.ruler?.geometry.setFromPoints([]);
    this.draw();
    this.onMeasure(null);
  }

  clicked(event) {
    const moved = this.pressed && Math.hypot(event.clientX - this.pressed[0], event.clientY - this.pressed[1]) > 5;
    if (!this.measuring || moved) return;
    const point = this.pick(event);
    if (!point) return;
    if (this.ends.length === 2) this.ends = [];
    this.ends.push(point);
    this.ruler.geometry.dispose();
    this.ruler.geometry = rulerGeometry(this.ends, 0.012 * this.extent);
    this.draw();
    this.onMeasure(this.ends.length === 2 ? this.ends[0].distanceTo(this.ends[1]) : null);
  }

  // The visible point nearest to the ray through the pointer, and before others, nearest to the eye.
  pick(event) {
    const box = this.canvas.getBoundingClientRect();
    const at = new Vector2(((event.clientX - box.left) / box.width) * 2 - 1, 1 - ((event.clientY - box.top) / box.height) * 2);
    const raycaster = new Raycaster();
    raycaster.setFromCamera(at, this.camera);
    const ray = raycaster.ray.clone().applyMatrix4(this.world.matrixWorld.clone().invert());
    const { position, rank, count } = this.cloud, threshold = this.uniforms.threshold.value;
    const point = new Vector3();
    let best = null, least = Infinity;
    for (let i = 0; i < count; i++) {
      if (rank[i] < threshold) continue;
      point.fromArray(position, 3 * i);
      const along = ray.direction.dot(point.clone().sub(ray.origin));
      if (along <= 0) continue;
      const off = ray.distanceToPoint(point) / along;
      if (off > 0.02) continue;
      const cost = along * (1 + 60 * off);
      if (cost < least) { least = cost; best = point.clone(); }
    }
    return best;
  }

  resize() {
    const { clientWidth: width, clientHeight: height } = this.canvas;
    if (!width || !height) return;
    this.renderer.setSize(width, height, false);
    this.camera.aspect = width / height;
    this.camera.updateProjectionMatrix();
    this.uniforms.scale.value = this.renderer.domElement.height / (2 * Math.tan((this.camera.fov * Math.PI) / 360));
    this.draw();
  }

  draw() {
    if (this.pending) return;
    this.pending = requestAnimationFrame(() => {
      this.pending = null;
      if (!this.points) return;
      this.scene.background = new Color(getComputedStyle(this.canvas.parentElement).backgroundColor);
      this.renderer.render(this.scene, this.camera);
      this.controls.update();
    });
  }
}

function readCamera(picture) {
  const [x, y, z] = picture.extrinsic;
  const row = axis => new Vector3(axis[0], axis[1], axis[2]);  // rows of the rotation are camera axes in the world
  const centre = new Vector3().addScaledVector(row(x), -x[3]).addScaledVector(row(y), -y[3]).addScaledVector(row(z), -z[3]);
  return { centre, right: row(x), down: row(y), forward: row(z), intrinsic: picture.intrinsic, size: picture.original_size };
}

function frustumGeometry(cameras, length) {
  const vertices = [], colors = [];
  cameras.forEach((camera, index) => {
    const [[fx, , cx], [, fy, cy]] = camera.intrinsic;
    const corner = (u, v) => camera.centre.clone()
      .addScaledVector(camera.right, (length * (u - cx)) / fx)
      .addScaledVector(camera.down, (length * (v - cy)) / fy)
      .addScaledVector(camera.forward, length);
    const { width, height } = camera.size;
    const corners = [corner(0, 0), corner(width, 0), corner(width, height), corner(0, height)];
    const color = new Color().setHSL(0.02 + (0.55 * index) / Math.max(cameras.length - 1, 1), 0.95, 0.42);
    corners.forEach((one, i) => {
      for (const end of [camera.centre, one, one, corners[(i + 1) % 4]]) {
        vertices.push(...end.toArray());
        colors.push(color.r, color.g, color.b);
      }
    });
  });
  const geometry = new BufferGeometry();
  geometry.setAttribute("position", new BufferAttribute(new Float32Array(vertices), 3));
  geometry.setAttribute("color", new BufferAttribute(new Float32Array(colors), 3));
  return geometry;
}

// A cross at each end, and the line between two.
function rulerGeometry(ends, arm) {
  const lines = ends.length === 2 ? [...ends] : [];
  for (const end of ends) {
    for (const axis of [new Vector3(arm, 0, 0), new Vector3(0, arm, 0), new Vector3(0, 0, arm)]) {
      lines.push(end.clone().add(axis), end.clone().sub(axis));
    }
  }
  return new BufferGeometry().setFromPoints(lines);
}
