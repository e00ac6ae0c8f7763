"""What is known of the named data sets before a byte of them is read."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Facts:
  """One data set in numbers.

  Attributes:
    class_names: class_names[label] is the class's name.
    mean: per channel, of the training pixels divided by 255.
    std: per channel, likewise.
    train_examples: size of the training split.
    test_examples: size of the test split.
    image_shape: (H, W, C).
  """

  class_names: tuple[str, ...]
  mean: tuple[float, ...]
  std: tuple[float, ...]
  train_examples: int
  test_examples: int
  image_shape: tuple[int, int, int]


FACTS = {
  'digits': Facts(
    class_names=tuple('0123456789'),
    mean=(0.3059,),
    std=(0.3762,),
    train_examples=1437,
    test_examples=360,
    image_shape=(8, 8, 1),
  ),
  # Constants of the two CIFARs: Heinonen et al. 2025 (arXiv 2406.01494), the
  # authors' code.
  'cifar10': Facts(
    class_names=(
      'airplane',
      'automobile',
      'bird',
      'cat',
      'deer',
      'dog',
      'frog',
      'horse',
      'ship',
      'truck',
    ),
    mean=(0.491, 0.482, 0.446),
    std=(0.247, 0.243, 0.261),
    train_examples=50_000,
    test_examples=10_000,
    image_shape=(32, 32, 3),
  ),
  'cifar100': Facts(
    # The fine labels, which are in alphabetical order.
    class_names=tuple(
      """
      apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl
      boy bridge bus butterfly camel can castle caterpillar cattle chair
      chimpanzee clock cloud cockroach couch crab crocodile cup dinosaur
      dolphin elephant flatfish forest fox girl hamster house kangaroo keyboard
      lamp lawn_mower leopard lion lizard lobster man maple_tree motorcycle
      mountain mouse mushroom oak_tree orange orchid otter palm_tree pear
      pickup_truck pine_tree plain plate poppy porcupine possum rabbit raccoon
      ray road rocket rose sea seal shark shrew skunk skyscraper snail snake
      spider squirrel streetcar sunflower sweet_pepper table tank telephone
      television tiger tractor train trout tulip turtle wardrobe whale
      willow_tree wolf woman worm
      """.split()
    ),
    mean=(0.507, 0.487, 0.441),
    std=(0.267, 0.256, 0.276),
    train_examples=50_000,
    test_examples=10_000,
    image_shape=(32, 32, 3),
  ),
}
