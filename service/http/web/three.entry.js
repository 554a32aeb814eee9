// What the page uses of three.js (https://threejs.org, MIT licence in three.LICENSE.txt), version 0.187.0.
// `make web` bundles it into three.min.js, so that the page loads one file and nothing from elsewhere.
export {
  BufferAttribute, BufferGeometry, Color, DoubleSide, Group, LineBasicMaterial, LineSegments, Matrix3, Matrix4, Mesh, MeshBasicMaterial,
  PerspectiveCamera, Points, Quaternion, Raycaster, Scene, ShaderMaterial, SRGBColorSpace, Texture, Vector2, Vector3, WebGLRenderer,
} from "three";
export { OrbitControls } from "three/examples/jsm/controls/OrbitControls.js";
