"""What the studies of images, a forecast and text share."""
