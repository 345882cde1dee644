"""Self-MM a second time, from the published code's description: loops, no layers.

Everything is one utterance at a time in float64; autograd alone is PyTorch's. Names of weights are
those of the network under test, so that both can start from the same ones.
"""

import math

import torch

TASKS = ("fusion", "text", "audio", "vision")


def lstm_end(weights, frames):
    """The last hidden state over frames, (t, d); gates in the order i, f, g, o."""
    hidden = cell = torch.zeros(weights["weight_hh_l0"].shape[1], dtype=torch.float64)
    for frame in frames:
        gates = weights["weight_ih_l0"] @ frame + weights["bias_ih_l0"]
        gates = gates + weights["weight_hh_l0"] @ hidden + weights["bias_hh_l0"]
        i, f, g, o = gates.reshape(4, -1)
        cell = torch.sigmoid(f) * cell + torch.sigmoid(i) * torch.tanh(g)
        hidden = torch.sigmoid(o) * torch.tanh(cell)
    return hidden


def text_vector(weights, states):
    """The state of the first token after the small trained layer of the test."""
    state = states[0]
    state = state + weights["dense.weight"] @ state + weights["dense.bias"]
    centred = state - state.mean()
    normal = centred / (centred.square().mean() + 1e-5).sqrt()
    return weights["LayerNorm.weight"] * normal + weights["LayerNorm.bias"]


def head(weights, x):
    """Prediction and first hidden layer."""
    first = torch.relu(weights["layer1.weight"] @ x + weights["layer1.bias"])
    second = torch.relu(weights["layer2.weight"] @ first + weights["layer2.bias"])
    return (weights["layer3.weight"] @ second + weights["layer3.bias"])[0], first


def distance(a, b):
    return math.sqrt(sum((x - y) ** 2 for x, y in zip(a, b, strict=True)))


class Published:
    """State and training of the published Self-MM.

    weights: by name. labels: multimodal, of all training utterances. rate, decay: name -> value.
    """

    def __init__(self, weights, labels, rate, decay, *, clamp, exclude_zero):
        self.weights = {name: w.detach().clone().requires_grad_() for name, w in weights.items()}
        self.rate, self.decay = rate, decay
        self.clamp, self.exclude_zero = clamp, exclude_zero
        self.moments = {name: (torch.zeros_like(w),) * 2 for name, w in self.weights.items()}
        self.steps = 0
        self.labels = {task: [float(y) for y in labels] for task in TASKS}
        self.features = {task: [[0.0] * self.width(task) for _ in labels] for task in TASKS}
        self.centers = {
            (task, side): [0.0] * self.width(task) for task in TASKS for side in ("pos", "neg")
        }

    def width(self, task):
        return len(self.weights[f"heads.{task}.layer1.bias"])

    def part(self, prefix):
        return {
            name.removeprefix(prefix + "."): weight
            for name, weight in self.weights.items()
            if name.startswith(prefix + ".")
        }

    def outputs(self, utterance):
        """Return (prediction, features) by task of the real frames of each modality."""
        vectors = {"text": text_vector(self.part("encoder.layers.0"), utterance["text"])}
        for name in ("audio", "vision"):
            end = lstm_end(self.part(f"frames.{name}.end.forwards"), utterance[name])
            linear = self.part(f"frames.{name}.linear")
            vectors[name] = linear["weight"] @ end + linear["bias"]
        fused = torch.cat([vectors["text"], vectors["audio"], vectors["vision"]])
        vectors = {"fusion": fused, **vectors}
        return {task: head(self.part(f"heads.{task}"), vectors[task]) for task in TASKS}

    def train_epoch(self, epoch, batches, accumulate, drop_incomplete):
        """Train on batches [(index, utterances)]; yield a record of each, with what was stepped."""
        summed = None
        for number, (index, utterances) in enumerate(batches, start=1):
            batch_outputs = [self.outputs(utterance) for utterance in utterances]
            loss = self.loss(index, batch_outputs)
            gradients = torch.autograd.grad(loss, list(self.weights.values()))
            if summed is None:
                summed = [torch.zeros_like(gradient) for gradient in gradients]
            summed = [s + g for s, g in zip(summed, gradients, strict=True)]
            self.update_tables(index, batch_outputs, epoch)
            record = {"loss": loss.item(), "outputs": batch_outputs, "gradients": None}
            complete = number % accumulate == 0
            if complete or (number == len(batches) and not drop_incomplete):
                record["gradients"] = dict(zip(self.weights, summed, strict=True))
                self.step(record["gradients"])
                summed = None
            yield record

    def loss(self, index, batch_outputs):
        """Sum over tasks of the mean over the batch of the weighted absolute error."""
        loss = 0.0
        for task in TASKS:
            for i, outputs in zip(index, batch_outputs, strict=True):
                label = self.labels[task][i]
                weight = 1.0
                if task != "fusion":
                    weight = math.tanh(abs(label - self.labels["fusion"][i]))
                loss = loss + weight * abs(outputs[task][0] - label) / len(index)
        return loss

    def update_tables(self, index, batch_outputs, epoch):
        """Labels (not in the first epoch), then features of the batch, then all centres."""
        if epoch > 1:
            for i, outputs in zip(index, batch_outputs, strict=True):
                ratio = {}
                for task in TASKS:
                    features = outputs[task][1].tolist()
                    to_positive = distance(features, self.centers[task, "pos"])
                    to_negative = distance(features, self.centers[task, "neg"])
                    ratio[task] = (to_negative - to_positive) / (to_positive + 1e-8)
                y = self.labels["fusion"][i]
                for task in TASKS[1:]:
                    alpha = ratio[task] / (ratio["fusion"] + 1e-8)
                    new = 0.5 * alpha * y + 0.5 * (y + ratio[task] - ratio["fusion"])
                    new = max(-self.clamp, min(self.clamp, new))
                    old = self.labels[task][i]
                    self.labels[task][i] = (epoch - 1) / (epoch + 1) * old + 2 / (epoch + 1) * new
        for task in TASKS:
            for i, outputs in zip(index, batch_outputs, strict=True):
                self.features[task][i] = outputs[task][1].tolist()
            for side in ("pos", "neg"):
                self.move_center(task, side)

    def move_center(self, task, side):
        """Make a centre the mean of the stored features of its class."""
        members = []
        for label, features in zip(self.labels[task], self.features[task], strict=True):
            positive = label > 0 if self.exclude_zero else label >= 0
            if (side == "pos" and positive) or (side == "neg" and label < 0):
                members.append(features)
        if not members:
            return  # our definition; the published code makes it NaN
        columns = zip(*members, strict=True)
        self.centers[task, side] = [sum(column) / len(members) for column in columns]

    def step(self, gradients):
        """Adam with coupled weight decay."""
        self.steps += 1
        for name, weight in self.weights.items():
            gradient = gradients[name] + self.decay(name) * weight.detach()
            first, second = self.moments[name]
            first = 0.9 * first + 0.1 * gradient
            second = 0.999 * second + 0.001 * gradient**2
            self.moments[name] = (first, second)
            first = first / (1 - 0.9**self.steps)
            second = second / (1 - 0.999**self.steps)
            with torch.no_grad():
                weight -= self.rate(name) * first / (second.sqrt() + 1e-8)
