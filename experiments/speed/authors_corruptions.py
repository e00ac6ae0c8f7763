"""Times the authors' corruption functions; run by `corruptions.py`.

  python authors_corruptions.py make_cifar_c.py IMAGES.npy FROST_FOLDER

Needs none of this project, but the libraries of 2019: numpy<2, scipy<1.12,
scikit-image>=0.20, opencv-python-headless, Pillow<10, Wand and ImageMagick 6.
Of the script only the functions and classes are taken, so that it writes no
files. Reads lines `NAME SEVERITY` and answers each with the CPU seconds per
image of one pass over the images.
"""

import ast
import ctypes
import os
import sys
import time
import warnings
from io import BytesIO


def load(path):
  """The functions of the script, with what it imports."""
  import cv2
  import numpy as np
  import skimage as sk
  import skimage.color
  import skimage.util
  import wand.image
  from PIL import Image as PILImage
  from scipy.ndimage import map_coordinates, zoom
  from skimage import filters
  from wand.api import library

  def gaussian(image, *arguments, multichannel=False, **options):
    # As the argument was called until scikit-image 0.20.
    axis = -1 if multichannel else None
    return filters.gaussian(image, *arguments, channel_axis=axis, **options)

  names = {
    'np': np,
    'cv2': cv2,
    'sk': sk,
    'gaussian': gaussian,
    'ctypes': ctypes,
    'BytesIO': BytesIO,
    'PILImage': PILImage,
    'WandImage': wand.image.Image,
    'wandlibrary': library,
    'scizoom': zoom,
    'map_coordinates': map_coordinates,
  }
  library.MagickMotionBlurImage.argtypes = (
    ctypes.c_void_p,
    ctypes.c_double,
    ctypes.c_double,
    ctypes.c_double,
  )
  with open(path) as file:
    tree = ast.parse(file.read())
  kept = (ast.FunctionDef, ast.ClassDef)
  tree.body = [node for node in tree.body if isinstance(node, kept)]
  exec(compile(tree, path, 'exec'), names)
  return names


def main():
  warnings.simplefilter('ignore')
  script, images, frost = map(os.path.abspath, sys.argv[1:4])
  names = load(script)
  np, pil = names['np'], names['PILImage']
  names['cv2'].setNumThreads(1)
  images = [pil.fromarray(image) for image in np.load(images)]
  os.chdir(frost)
  np.random.seed(0)
  for line in sys.stdin:
    name, severity = line.split()
    corrupt = names[name]
    np.uint8(corrupt(images[0].copy(), int(severity)))
    start = time.process_time()
    for image in images:
      np.uint8(corrupt(image.copy(), int(severity)))
    print((time.process_time() - start) / len(images), flush=True)


if __name__ == '__main__':
  main()
