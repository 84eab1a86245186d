// Reads the digit in a picture, by the gateway's protos as @grpc/proto-loader reads them.
import { readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';

import grpc from '@grpc/grpc-js';
import { loadSync } from '@grpc/proto-loader';
import { GoogleError } from 'google-gax';
import { PNG } from 'pngjs';

const PROTOS = new URL('../../../protos', import.meta.url).pathname;
const TRIES = 3;
const ADVICE = {
  [grpc.status.UNAUTHENTICATED]: 'get a new token',
  [grpc.status.PERMISSION_DENIED]: "ask for a grant, or check the model's name",
  [grpc.status.NOT_FOUND]: "check the model's name",
  [grpc.status.INVALID_ARGUMENT]: "send what the model's metadata asks for",
  [grpc.status.RESOURCE_EXHAUSTED]: 'send less, or come back later',
  [grpc.status.UNAVAILABLE]: 'come back later',
  [grpc.status.DEADLINE_EXCEEDED]: 'allow it more time',
  [grpc.status.INTERNAL]: 'report the id of the request',
};

const [address, model, picture] = process.argv.slice(2);
const protos = loadSync('grpc_service.proto', { includeDirs: [PROTOS], keepCase: true });
const { inference } = grpc.loadPackageDefinition(protos);
const tls = grpc.credentials.createSsl(readFileSync(process.env.HEADRACE_CA));
const client = new inference.GRPCInferenceService(address, tls);
const modelInfer = promisify(client.ModelInfer.bind(client));
const metadata = new grpc.Metadata();
metadata.set('authorization', `Bearer ${process.env.HEADRACE_TOKEN}`);
const deadline = Date.now() + 10_000; // for all tries together
const request = {
  model_name: model,
  inputs: [{ name: 'image', datatype: 'FP32', shape: [1, 64] }],
  outputs: [{ name: 'label' }],
  raw_input_contents: [pixels(picture)],
};
for (let attempt = 1; ; attempt++) {
  try {
    const answer = await modelInfer(request, metadata, { deadline });
    console.log(answer.raw_output_contents[0].readBigInt64LE().toString());
    break;
  } catch (refusal) {
    const { code, details, reason, errorInfoMetadata, statusDetails } = GoogleError.parseGRPCStatusDetails(refusal);
    const id = errorInfoMetadata?.request_id ?? '';
    console.error(`${grpc.status[code]} ${reason ?? ''}: ${details}; ${ADVICE[code]} (request_id=${id})`);
    const delay = statusDetails?.find((detail) => detail.retryDelay)?.retryDelay; // google.rpc.RetryInfo's
    if (!delay || attempt === TRIES) {
      process.exitCode = 64 + code; // as grpcurl does
      break;
    }
    await sleep((Number(delay.seconds) * 1e3 + delay.nanos / 1e6) * 2 ** (attempt - 1));
  }
}
client.close();

/** The picture as 8 x 8 greys from 0 to 1: FP32, row by row, little endian. */
function pixels(path) {
  const { width, height, data } = PNG.sync.read(readFileSync(path)); // RGBA, and red is as good as grey
  const sums = new Float32Array(64);
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      sums[8 * Math.floor((8 * y) / height) + Math.floor((8 * x) / width)] += data[4 * (y * width + x)];
    }
  }
  return Buffer.from(sums.map((sum) => (sum * 64) / (width * height * 255)).buffer);
}
