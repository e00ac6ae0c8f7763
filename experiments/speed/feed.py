r"""What feeding costs: images/s and memory of each feed beside none at all.

  python -m experiments.speed.feed

The ceiling is a step on one constant batch; the step itself only reads the
pixels. Every round opens and closes all feeds in turn, so that a noisy machine
disturbs all alike and no worker decodes ahead while another feed is timed;
medians over rounds are printed with their quartiles, of wall time. Memory is
the peak resident size of a process of its own per feed, and of its workers.

The images are JPEGs of random smooth pictures in array_record, written by tfds
into a temporary folder: 32 x 32 pixels like CIFAR, and 256 x 256, of which
224 x 224 are asked for.
"""

import argparse
import contextlib
import functools
import io
import json
import multiprocessing
import os
import platform
import re
import subprocess
import sys
import tempfile
import time
from importlib import metadata
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from mollify_jax.data import resident, streaming

# name -> (stored size, size asked for, examples, batch size)
SETTINGS = {'small': (32, 32, 4096, 256), 'large': (256, 224, 512, 64)}
WORKERS = (0, 1, 2)
WARM_UP_STEPS = 6  # more than what workers decode ahead


def write_images(directory: Path, size: int, count: int) -> None:
  """Has tfds write `count` JPEGs of size x size as array_record."""
  import tensorflow_datasets as tfds
  from PIL import Image

  tfds.disable_progress_bar()

  class Smooth(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """Random 8 x 8 pictures, enlarged."""

    VERSION = tfds.core.Version('1.0.0')

    def _info(self):
      features = {
        'image': tfds.features.Image(encoding_format='jpeg'),
        'label': tfds.features.ClassLabel(num_classes=10),
      }
      return tfds.core.DatasetInfo(
        builder=self, features=tfds.features.FeaturesDict(features)
      )

    def _split_generators(self, dl_manager):
      return {'train': self._generate_examples()}

    def _generate_examples(self):
      generator = np.random.default_rng(0)
      for index in range(count):
        pixels = generator.integers(0, 256, (8, 8, 3), dtype=np.uint8)
        image = Image.fromarray(pixels).resize((size, size))
        file = io.BytesIO()
        image.save(file, 'JPEG', quality=90)
        file.seek(0)
        yield index, {'image': file, 'label': index % 10}

  Smooth(data_dir=directory, file_format='array_record').download_and_prepare()


def open_images(directory: Path):
  """The source that `streaming` reads."""
  import tensorflow_datasets as tfds

  return tfds.builder_from_directory(
    directory / 'smooth' / '1.0.0'
  ).as_data_source('train', decoders={'image': tfds.decode.SkipDecoding()})


@jax.jit
def train_step(total, images, labels):
  """Stands for training: reads every pixel, as fast as memory allows.

  A maximum, because XLA:CPU takes sixty times longer for a sum.
  """
  largest = jnp.max(jnp.max(images, axis=0))
  return jnp.maximum(total, jnp.maximum(largest, jnp.max(labels)))


@jax.jit
def train_step_on_resident(total, images, labels, index):
  return train_step(total, images[index], labels[index])


@functools.cache
def decoded(directory: Path, image_size: int):
  """All examples in host memory, (images, labels)."""
  batches = list(
    streaming.eval_batches(
      open_images(directory), batch_size=64, image_size=image_size
    )
  )
  return tuple(
    np.concatenate([batch[key][batch['mask']] for batch in batches])
    for key in ('image', 'label')
  )


@contextlib.contextmanager
def constant(directory, image_size, batch_size):
  arrays = jax.device_put(
    tuple(array[:batch_size] for array in decoded(directory, image_size))
  )
  yield lambda step, total: train_step(total, *arrays)


@contextlib.contextmanager
def on_device(directory, image_size, batch_size):
  images, labels = decoded(directory, image_size)
  arrays = jax.device_put((images, labels))

  def run(step, total):
    index = resident.train_indices(0, step, 1, batch_size, len(labels))
    return train_step_on_resident(total, *arrays, index[0])

  yield run


@contextlib.contextmanager
def on_host(directory, image_size, batch_size):
  images, labels = decoded(directory, image_size)

  def run(step, total):
    (index,) = resident.train_indices(0, step, 1, batch_size, len(labels))
    return train_step(total, *jax.device_put((images[index], labels[index])))

  yield run


@contextlib.contextmanager
def streamed(directory, image_size, batch_size, *, num_workers):
  with streaming.StreamingFeed(
    open_images(directory),
    batch_size=batch_size,
    image_size=image_size,
    seed=0,
    num_workers=num_workers,
  ) as feed:

    def run(step, total):
      batch = feed.steps(step, 1)
      arrays = jax.device_put((batch['image'][0], batch['label'][0]))
      return train_step(total, *arrays)

    yield run


FEEDS = {
  'constant batch': constant,
  'resident, gathered in the step': on_device,
  'host, gathered and sent': on_host,
  **{
    f'streamed, {count} workers': functools.partial(streamed, num_workers=count)
    for count in WORKERS
  },
}


def seconds_per_step(run, seconds: float) -> float:
  """Mean over at least that many seconds, after warming up."""
  total = jnp.zeros(())
  for step in range(WARM_UP_STEPS):
    total = jax.block_until_ready(run(step, total))
  steps = 0
  start = time.perf_counter()
  while steps == 0 or time.perf_counter() - start < seconds:
    total = jax.block_until_ready(run(WARM_UP_STEPS + steps, total))
    steps += 1
  return (time.perf_counter() - start) / steps


def measure(directory: Path, setting: str, rounds: int, seconds: float):
  """Seconds per step of every feed: [rounds] each, interleaved."""
  _, image_size, _, batch_size = SETTINGS[setting]
  times = {name: [] for name in FEEDS}
  for _ in range(rounds):
    for name, feed in FEEDS.items():
      with feed(directory, image_size, batch_size) as run:
        times[name].append(seconds_per_step(run, seconds))
  return times


def peak_mebibytes(pid: int) -> float:
  status = Path(f'/proc/{pid}/status').read_text()
  return int(re.search(r'VmHWM:\s+(\d+) kB', status)[1]) / 1024


def print_memory(directory: Path, setting: str, name: str) -> None:
  """Runs one feed and prints the peaks of this process and of its workers."""
  _, image_size, _, batch_size = SETTINGS[setting]
  with FEEDS[name](directory, image_size, batch_size) as run:
    seconds_per_step(run, 0.5)
    workers = [
      peak_mebibytes(child.pid) for child in multiprocessing.active_children()
    ]
  print(json.dumps([peak_mebibytes(os.getpid()), sum(workers)]))


def memory(directory: Path, setting: str, name: str) -> tuple[float, float]:
  """MiB of a fresh process with that feed, and of its workers together."""
  output = subprocess.run(
    [sys.executable, '-m', 'experiments.speed.feed']
    + ['--memory', str(directory), setting, name],
    capture_output=True,
    text=True,
    check=True,
  ).stdout
  return tuple(json.loads(output.splitlines()[-1]))


def main():
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('--rounds', type=int, default=7)
  parser.add_argument('--seconds', type=float, default=1, help='per feed')
  parser.add_argument('--out', type=Path, help='also write results as JSON')
  parser.add_argument('--memory', nargs=3, help=argparse.SUPPRESS)
  arguments = parser.parse_args()
  if arguments.memory:
    directory, setting, name = arguments.memory
    print_memory(Path(directory), setting, name)
    return

  device = jax.devices()[0]
  print(
    f'{platform.machine()} {device.device_kind}, {os.cpu_count()} cores, jax '
    f'{metadata.version("jax")}, grain {metadata.version("grain")}'
  )
  rows = []
  for setting, (stored, image_size, count, batch_size) in SETTINGS.items():
    with tempfile.TemporaryDirectory() as directory:
      directory = Path(directory)
      write_images(directory, stored, count)
      times = measure(directory, setting, arguments.rounds, arguments.seconds)
      print(
        f'\n{f"{stored} px -> {image_size} px, batch {batch_size}":<32} '
        f'{"images/s":>10} {"quartiles":>21} {"of ceiling":>11} '
        f'{"MiB":>6} {"+ workers":>9}'
      )
      ceiling = np.median(times['constant batch'])
      for name, values in times.items():
        low, median, high = np.quantile(values, [0.25, 0.5, 0.75])
        own, workers = memory(directory, setting, name)
        rows.append(
          {
            'setting': setting,
            'feed': name,
            'images_per_second': batch_size / median,
            'quartiles': [batch_size / high, batch_size / low],
            'share_of_ceiling': ceiling / median,
            'peak_mebibytes': own,
            'peak_mebibytes_of_workers': workers,
          }
        )
        print(
          f'{name:<32} {batch_size / median:>10,.0f} '
          f'{batch_size / high:>10,.0f}-{batch_size / low:<10,.0f} '
          f'{ceiling / median:>11.2%} {own:>6,.0f} {workers:>9,.0f}'
        )
  if arguments.out:
    record = {
      'machine': f'{platform.machine()}, {device.device_kind}, '
      f'{os.cpu_count()} cores',
      'versions': {
        name: metadata.version(name)
        for name in ('jax', 'numpy', 'grain', 'pillow')
      },
      'rounds': arguments.rounds,
      'seconds': arguments.seconds,
      'settings': SETTINGS,
      'rows': rows,
    }
    arguments.out.write_text(json.dumps(record, indent=2) + '\n')


if __name__ == '__main__':
  main()
