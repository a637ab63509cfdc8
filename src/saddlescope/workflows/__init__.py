"""What is put together from training, paths and what follows: demonstrations, passes, shrinking, studies."""
