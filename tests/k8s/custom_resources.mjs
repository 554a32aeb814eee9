// Checks one custom resource, JSON on standard input, against its operator's schema.
//   node custom_resources.mjs FOLDER-OF-@kubernetes-models
import { readFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { pathToFileURL } from "node:url";

const PACKAGES = { "keda.sh": "keda", "monitoring.coreos.com": "prometheus-operator" };

const resource = JSON.parse(readFileSync(0, "utf8"));
const [group, version] = resource.apiVersion.split("/");
const folder = join(resolve(process.argv[2]), "@kubernetes-models", PACKAGES[group], group, version);
const models = await import(pathToFileURL(join(folder, `${resource.kind}.js`)));
try {
  new models[resource.kind](resource).validate();
} catch (error) {
  console.error(error.message);
  process.exit(1);
}
