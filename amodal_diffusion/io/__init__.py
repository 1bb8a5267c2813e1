"""Files in and out: videos, images, masks, annotations, depth, result folders."""
