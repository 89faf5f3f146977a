// llama.cpp with several sequences behind the smallest HTTP server that can stream /v1/completions and answer /health:
//   node llama_server.mjs PEER_HOME MODEL.gguf SEQUENCES PORT
import { createRequire } from "node:module";
import { createServer } from "node:http";
import { pathToFileURL } from "node:url";

const [, , home, modelPath, rows, port] = process.argv;
const entry = createRequire(`${home}/package.json`).resolve("node-llama-cpp");
const { getLlama, LlamaLogLevel } = await import(pathToFileURL(entry));
const llama = await getLlama({ gpu: false, build: "never", logLevel: LlamaLogLevel.error });
const model = await llama.loadModel({ modelPath });
const sequences = Number(rows);
const context = await model.createContext({
  contextSize: 1024 * sequences, batchSize: 512, sequences, threads: { ideal: 2, min: 2 },
});
const free = Array.from({ length: sequences }, () => context.getSequence());
const waiting = [];
const take = () => (free.length ? Promise.resolve(free.pop()) : new Promise((resolve) => waiting.push(resolve)));
const give = (sequence) => (waiting.length ? waiting.shift()(sequence) : free.push(sequence));

async function complete(request, response) {
  let body = "";
  for await (const chunk of request) body += chunk;
  const { prompt, max_tokens: count } = JSON.parse(body);
  const sequence = await take();
  try {
    response.writeHead(200, { "content-type": "text/event-stream" });
    const tokens = model.tokenize(prompt);
    await sequence.adaptStateToTokens(tokens.slice(0, -1), false); // what it holds of this prompt stays
    let produced = 0;
    const rest = tokens.slice(sequence.nextTokenIndex);
    for await (const token of sequence.evaluate(rest, { temperature: 0, yieldEogToken: true })) {
      if (response.destroyed) break;
      const text = model.detokenize([token]);
      response.write(`data: ${JSON.stringify({ choices: [{ index: 0, text }] })}\n\n`);
      if (++produced >= count) break;
    }
    response.end("data: [DONE]\n\n");
  } finally {
    give(sequence);
  }
}

createServer((request, response) => {
  if (request.url === "/health") response.end("ok");
  else complete(request, response).catch(() => response.destroy());
}).listen(Number(port), "127.0.0.1");
