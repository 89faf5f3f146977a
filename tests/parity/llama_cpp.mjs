// Reads {"model", "texts", "count"} from stdin; prints llama.cpp's token ids of each text and its greedy continuation.
// Run from a folder where `npm i node-llama-cpp` was done.
import {createRequire} from "module";
import {pathToFileURL} from "url";

const entry = createRequire(process.cwd() + "/").resolve("node-llama-cpp");
const {getLlama} = await import(pathToFileURL(entry));
const chunks = [];
for await (const chunk of process.stdin) chunks.push(chunk);
const {model: modelPath, texts, count} = JSON.parse(Buffer.concat(chunks));
const llama = await getLlama({gpu: false, build: "never", logLevel: "error", maxThreads: 2});
const model = await llama.loadModel({modelPath});
const context = await model.createContext({contextSize: 256, batchSize: 256});
const answers = [];
for (const text of texts) {
    const ids = model.tokenize(text, false);
    const sequence = context.getSequence();
    const next = [];
    for await (const token of sequence.evaluate(ids, {temperature: 0, yieldEogToken: true})) {
        next.push(token);
        if (next.length === count) break;
    }
    answers.push({ids: Array.from(ids), next});
    sequence.dispose();
}
console.log(JSON.stringify(answers));
process.exit(0);
