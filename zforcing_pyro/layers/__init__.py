"""Network pieces that know no probability."""
