"""Data sets and weights: by name, by file, in memory; `ss.data` holds what makes them."""

from saddlescope.data.data import Data as Data
from saddlescope.data.data import teacher_data as teacher_data
from saddlescope.data.sources import deep_teacher as deep_teacher
from saddlescope.data.sources import digits as digits
from saddlescope.data.sources import digits_used as digits_used
from saddlescope.data.sources import grid_inputs as grid_inputs
from saddlescope.data.sources import idx_folder as idx_folder
from saddlescope.data.sources import load_data as load_data
from saddlescope.data.sources import mnist as mnist
from saddlescope.data.sources import normal_inputs as normal_inputs
from saddlescope.data.sources import toy as toy
from saddlescope.data.sources import toy_teacher as toy_teacher
