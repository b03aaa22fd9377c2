"""Loop closures of a folder of images: python examples/closures_of_a_folder.py FOLDER [IMAGES_PER_SECOND]

An image is compared with those that are more than `exclusion.time_s` (10 s) older, so the rate matters.
"""

import sys

from vpr_ros import Config, LoopDetector, PlaceModel, open_engine, open_source

folder, rate_hz = sys.argv[1], float(sys.argv[2]) if len(sys.argv) > 2 else 10.0
config = Config()
detector = LoopDetector(config, open_engine(PlaceModel.open(), config.engine))
for frame in open_source(folder, rate_hz=rate_hz):
    match = detector.process(frame)
    if match.accepted and match.match:
        query, other = (round(stamp_ns * rate_hz / 1e9) for stamp_ns in (frame.stamp_ns, match.match.stamp_ns))
        print(f"image {query} shows the place of image {other} (similarity {match.similarity:.2f})")
