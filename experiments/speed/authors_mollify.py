"""Times the authors' mollification in PyTorch; run by `mollify.py`.

  python authors_mollify.py model.py SIZE

Needs none of this project, but torch, numpy and torch-dct. Of the authors'
script (github.com/markusheinonen/supervised-mollification, src/model.py) only
the methods of its class are taken, so that neither Lightning nor torchmetrics
is needed. Reads lines `ROLES BATCH`, such as `xnb 128` (x clean, n noise, b
blur), and answers each with the CPU seconds of one batch, in one thread.
"""

import ast
import math
import sys
import time
import types


def load(path):
  """The class of the script without its base; it takes no arguments."""
  import numpy as np
  import torch
  import torch.nn.functional as F
  import torch_dct

  with open(path) as file:
    tree = ast.parse(file.read())
  tree.body = [node for node in tree.body if isinstance(node, ast.ClassDef)]
  for node in tree.body:
    node.bases = []
    node.body = [
      method
      for method in node.body
      if isinstance(method, ast.FunctionDef) and method.name != '__init__'
    ]
  names = {'np': np, 'torch': torch, 'torch_dct': torch_dct, 'F': F}
  exec(compile(tree, path, 'exec'), {**names, 'math': math}, names)
  return names['Model']()


def main():
  import torch
  import torch_dct

  torch.set_num_threads(1)
  torch.manual_seed(0)
  path, size = sys.argv[1], int(sys.argv[2])
  model = load(path)
  # What its constructor sets.
  model.scalemin, model.scalemax, model.num_classes = 0.3, size, 10
  frequencies = torch.pi * torch.arange(0, size).reshape((size, 1)) / size
  model.L = frequencies**2 + frequencies.T**2
  model.dctlayer = torch_dct.LinearDCT(size, 'dct')
  model.idctlayer = torch_dct.LinearDCT(size, 'idct')
  for line in sys.stdin:
    roles, batch = line.split()
    batch = int(batch)
    # The defaults of its command.
    model.args = types.SimpleNamespace(
      alpha=1.0, beta=2.0, npow=1.0, bpow=1.0, ynoise='ls', batch=roles
    )
    images = torch.randn(batch, 3, size, size)
    labels = torch.nn.functional.one_hot(torch.arange(batch) % 10, 10).float()

    def mollify(images=images, labels=labels):
      with torch.no_grad():
        x, y = images.clone(), labels.clone()  # written in place
        dealt = model.sample_role(x)
        t = model.sample_time(x, dealt)
        model.mollify_x(x, t, dealt)
        model.mollify_y(y, t, dealt)

    mollify()
    calls, start = 0, time.process_time()
    while calls == 0 or time.process_time() - start < 0.03:
      mollify()
      calls += 1
    print((time.process_time() - start) / calls, flush=True)


if __name__ == '__main__':
  main()
