// llama.cpp through node-llama-cpp, asked line by line on standard input, so that it and we can take turns:
//   {"op":"decode","prompt":[ids],"new":64}  {"op":"prefill","prompt":[ids]}  {"op":"batch","prompts":[[ids],…],"new":64}
//   {"op":"score","windows":[[ids],…]}  {"op":"answer","prompt":[ids],"new":64}
// Each answer is one JSON line with seconds and tokens. The first line says which build of llama.cpp answered.
import { createRequire } from "node:module";
import { createInterface } from "node:readline";
import { pathToFileURL } from "node:url";

const [, , home, modelPath, rows] = process.argv;
const entry = createRequire(`${home}/package.json`).resolve("node-llama-cpp");
const { getLlama, LlamaLogLevel } = await import(pathToFileURL(entry));
const llama = await getLlama({ gpu: false, build: "never", logLevel: LlamaLogLevel.error });
const model = await llama.loadModel({ modelPath });
const sequences = Number(rows);
const context = await model.createContext({
  contextSize: 1024 * sequences, batchSize: 512, sequences, threads: { ideal: 2, min: 2 },
});
const pool = Array.from({ length: sequences }, () => context.getSequence());
console.log(JSON.stringify({ build: llama.buildType, systemInfo: llama.systemInfo }));

async function generate(sequence, prompt, count) {
  await sequence.clearHistory();
  let produced = 0, first = 0;
  for await (const _ of sequence.evaluate(prompt, { temperature: 0, yieldEogToken: true })) {
    if (++produced === 1) first = performance.now();
    if (produced > count) break;
  }
  return { first, produced: produced - 1 };
}

const operations = {
  async prefill({ prompt }) {
    await pool[0].clearHistory();
    const began = performance.now();
    await pool[0].evaluateWithoutGeneratingNewTokens(prompt);
    return { seconds: (performance.now() - began) / 1000, tokens: prompt.length };
  },
  async decode({ prompt, new: count }) {
    const { first, produced } = await generate(pool[0], prompt, count);
    return { seconds: (performance.now() - first) / 1000, tokens: produced };
  },
  async score({ windows }) { // mean of -log p of every token but the first of each window
    let loss = 0, count = 0;
    for (const window of windows) {
      await pool[0].clearHistory();
      const asked = window.slice(0, -1).map((token) => [token, { generateNext: { probabilities: true } }]);
      for (let start = 0; start < asked.length; start += 16) { // a position's probabilities are a map of all words
        const found = await pool[0].controlledEvaluate(asked.slice(start, start + 16));
        for (let i = 0; i < found.length; i++) {
          loss -= Math.log(found[i].next.probabilities.get(window[start + i + 1]));
          count++;
        }
      }
    }
    return { loss: loss / count, tokens: count };
  },
  async answer({ prompt, new: count }) { // greedy, up to the end of the turn
    await pool[0].clearHistory();
    const ids = [];
    for await (const token of pool[0].evaluate(prompt, { temperature: 0 })) {
      ids.push(token);
      if (ids.length === count) break;
    }
    return { ids };
  },
  async batch({ prompts, new: count }) {
    const began = performance.now();
    await Promise.all(prompts.map((prompt, row) => generate(pool[row], prompt, count)));
    return { seconds: (performance.now() - began) / 1000, tokens: count * prompts.length };
  },
};

for await (const line of createInterface({ input: process.stdin })) {
  const request = JSON.parse(line);
  console.log(JSON.stringify(await operations[request.op](request)));
}
process.exit(0);
