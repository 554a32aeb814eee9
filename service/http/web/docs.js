// The page at /docs: Swagger UI (https://swagger.io, licence in swagger-ui.LICENSE.txt) on this service's description.

/* global SwaggerUIBundle */

// Swagger UI fills a form with examples of all its fields, made up where there are none, and takes options that hold
// JSON for files. Here an example stands beside its option, as text, and every field starts with its default or empty.
function describe(option, schema) {
  const [example] = schema.examples || [];
  const text = typeof example === "object" ? JSON.stringify(example) : example;
  const description = (option.description || "").replace(/\.?$/, ".");
  if (example !== undefined) option.description = `${description} For example: \`${text}\``;
  for (const key of ["examples", "contentMediaType", "contentSchema"]) delete schema[key];
}

function forReaders(api) {
  for (const operation of Object.values(api.paths).flatMap(Object.values)) {
    for (const parameter of operation.parameters || []) describe(parameter, parameter.schema);
    const form = operation.requestBody?.content["multipart/form-data"]?.schema.properties || {};
    for (const field of Object.values(form)) {
      for (const choice of field.anyOf || []) describe({}, choice);
      describe(field, field);
      field.default ??= field.type === "array" ? [] : "";
    }
  }
  return api;
}

// A field that was left empty is not sent.
function withoutEmptyFields(request) {
  if (request.body instanceof FormData) {
    for (const [name, value] of [...request.body]) {
      if (value === "" || (value instanceof File && !value.size)) request.body.delete(name);
    }
  }
  return request;
}

const api = await (await fetch("openapi.json")).json();
SwaggerUIBundle({
  spec: forReaders(api),
  dom_id: "#docs",
  deepLinking: true,
  defaultModelsExpandDepth: 0,
  requestInterceptor: withoutEmptyFields,
  validatorUrl: null,  // asks nobody else whether the description is valid
});

const dark = matchMedia("(prefers-color-scheme: dark)");
const follow = () => document.documentElement.classList.toggle("dark-mode", dark.matches);
dark.addEventListener("change", follow);
follow();
