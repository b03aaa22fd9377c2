"""The keyframes that a robot remembers, and the index that searches them."""
