"""The papers' experiments from tasks to figure, data and text: joins study, sweeps and plots."""
