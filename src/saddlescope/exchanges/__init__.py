"""Every unit of a layer as a copy of itself: whether the copy is unstable, along what, and what dropping it costs."""
