// Sends a file with tus-js-client: node tus_client.mjs ENDPOINT FILE [stop-after BYTES | resume URL]
import fs from "node:fs";
import { createRequire } from "node:module";

const { Upload } = createRequire(process.env.TUS_CLIENT + "/")("tus-js-client");
const [endpoint, path, what, value] = process.argv.slice(2);
const upload = new Upload(fs.createReadStream(path), {
  endpoint,
  uploadUrl: what === "resume" ? value : undefined,
  uploadSize: fs.statSync(path).size,
  chunkSize: 2 ** 16,
  retryDelays: [0, 100, 1000],
  headers: process.env.TOKEN ? { "Owner-Token": process.env.TOKEN } : {},
  metadata: { filename: process.env.NAME ?? "walk.mp4" },
  onChunkComplete: (size, accepted) => {
    if (what === "stop-after" && accepted >= Number(value)) {
      console.log(upload.url);
      process.exit(0); // in the middle, as a crash would
    }
  },
  onSuccess: () => console.log(upload.url),
  onError: (error) => {
    console.error(String(error));
    process.exit(1);
  },
});
upload.start();
