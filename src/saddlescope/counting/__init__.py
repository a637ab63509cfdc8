"""Exact numbers of equivalent minima, critical subspaces and permutation points: Python integers, nothing heavy."""

from saddlescope.counting.closed_form import critical_subspaces as critical_subspaces
from saddlescope.counting.closed_form import equivalent_minima as equivalent_minima
from saddlescope.counting.closed_form import layers_critical as layers_critical
from saddlescope.counting.closed_form import layers_minimum as layers_minimum
from saddlescope.counting.closed_form import layers_ratio as layers_ratio
from saddlescope.counting.closed_form import minimum_subspaces as minimum_subspaces
from saddlescope.counting.closed_form import permutation_point_ratio as permutation_point_ratio
from saddlescope.counting.closed_form import ratio_lower_bound as ratio_lower_bound
from saddlescope.counting.enumerate import critical_assignments as critical_assignments
from saddlescope.counting.enumerate import minimum_assignments as minimum_assignments
from saddlescope.counting.regimes import regimes as regimes
