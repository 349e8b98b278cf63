// Classifies pictures with the model in this folder. `ort` is the module of onnxruntime-web, which the page chooses.

/** Load the model and what lies beside it; `folder` is where they are, this script's by default. */
export async function load(ort, folder = new URL(".", import.meta.url)) {
  const json = async (name) => (await fetch(new URL(name, folder))).json();
  const [labels, preprocess] = await Promise.all([json("labels.json"), json("preprocess.json")]);
  const session = await ort.InferenceSession.create(new URL("model.onnx", folder).href);
  return { ort, session, labels, preprocess };
}

/**
 * Return the probability of each class, and the classes decided on, of `picture`: an image, canvas or ImageBitmap.
 * A browser resizes by its own rule: probabilities differ a little from those of tledge, which resizes as Pillow does.
 */
export async function classify({ ort, session, labels, preprocess }, picture) {
  const { height, width } = preprocess;
  const input = new ort.Tensor("uint8", pixels(picture, preprocess), [1, height, width, 3]);
  const { probabilities } = await session.run({ image: input });
  const row = Array.from(probabilities.data);
  return { probabilities: row, labels: decide(row, labels).map((index) => labels.classes[index]) };
}

/** Return uint8 RGB of `picture` at the size that the model takes: transparency over white, what is padded grey. */
export function pixels(picture, { height, width, fit }) {
  const context = new OffscreenCanvas(width, height).getContext("2d", { willReadFrequently: true });
  const whole = [picture.naturalWidth ?? picture.width, picture.naturalHeight ?? picture.height];
  const scales = [width / whole[0], height / whole[1]];
  const scale = fit === "crop" ? Math.max(...scales) : Math.min(...scales);
  const [across, down] = fit === "stretch" ? [width, height] : whole.map((side) => side * scale);
  const place = [(width - across) / 2, (height - down) / 2, across, down];
  context.fillStyle = "rgb(128 128 128)";
  context.fillRect(0, 0, width, height);
  context.fillStyle = "white";
  context.fillRect(...place);
  context.imageSmoothingQuality = "high";
  context.drawImage(picture, ...place);
  return new Uint8Array(context.getImageData(0, 0, width, height).data.filter((_, index) => index % 4 < 3));
}

/** Return the indices of the classes that `row` stands for, as tledge decides. */
export function decide(row, { multilabel, thresholds }) {
  if (multilabel) return row.flatMap((p, index) => (p >= (thresholds[index] ?? 0.5) ? [index] : []));
  if (thresholds.length && row.length === 2) return [row[1] >= thresholds[1] ? 1 : 0];
  return [row.indexOf(Math.max(...row))];
}
